from __future__ import annotations

import inspect
import re

import pytest

from streamscore import errors
from streamscore.errors import StreamscoreError

TREE = [value for _, value in inspect.getmembers(errors, inspect.isclass) if issubclass(value, StreamscoreError)]


@pytest.mark.parametrize("error", TREE, ids=lambda error: error.__name__)
def test_each_error_stands_in_the_tree_of_the_docstring(error: type[StreamscoreError]) -> None:
    (line,) = re.findall(rf"^.*\b{error.__name__}\b.*$", errors.__doc__.split("::", 1)[1], re.MULTILINE)
    code = re.search(rf"{error.__name__}\s+(\d)", line)
    if code is None:  # shares its parent's
        assert error.exit_code == error.__mro__[1].exit_code
    else:
        assert error.exit_code == int(code[1])
