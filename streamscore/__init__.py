"""streamscore: a real-time, closed-loop scorer of brain state.

The data path reads from the file names: ``sources`` → ``timebase`` → ``ring`` → ``preprocess`` →
``scorer`` → ``policies`` → ``sinks``; ``engine`` is the loop around them.
"""

__version__ = "0.1.0"
