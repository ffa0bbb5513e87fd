"""Features that networks are fed with: computed incrementally, each once."""
