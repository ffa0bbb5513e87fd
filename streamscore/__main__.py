"""``python -m streamscore`` is the command ``streamscore``."""

from streamscore.cli import main

if __name__ == "__main__":
    main()
