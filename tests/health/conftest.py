"""`hub up` as in the tests of the runtime."""

from tests.runtime.conftest import hub_up

__all__ = ["hub_up"]
