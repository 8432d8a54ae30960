"""For tests of what one kind of database has, and the other has not."""

import pytest
from django.db import connection

ALL_RIGHTS = "SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public"


def on_postgresql() -> None:
    if connection.vendor != "postgresql":
        pytest.skip("a server has these troubles, a file has not")


def only_sqlite() -> None:
    if connection.vendor != "sqlite":
        pytest.skip("a file has these troubles, a server has not")
