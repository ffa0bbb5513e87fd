"""The real recordings, as the tests of recordings find them."""

from tests.recordings.conftest import data_file

__all__ = ["data_file"]
