"""Clients, keys, users and the audit log in the admin."""

from . import audit, clients, users

__all__ = ["audit", "clients", "users"]
