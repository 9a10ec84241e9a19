"""Two equal databases, on one of which we listen: what the tests of bulk writes stand on."""

import pytest

pytest.register_assert_rewrite("support.bulk.twins")
