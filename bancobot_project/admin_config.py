from django.contrib.admin.apps import AdminConfig
from django.dispatch import Signal

# No password for `username` from the address of `request` is looked at for a while; sent where that begins. What else
# happens at the door, Django's own signals tell: user_logged_in, user_logged_out, user_login_failed.
locked_out = Signal()


class DoorConfig(AdminConfig):
    """django.contrib.admin, with our site as its default one."""

    default_site = "bancobot_project.admin_site.Site"
