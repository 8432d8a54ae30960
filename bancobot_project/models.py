from django.db import models


class PasswordTries(models.Model):
    """How often somebody has tried a password of the admin; forgotten at `until`, which each try puts off.

    `who` is a keyed hash: of an address, or of a user name and an address.
    """

    who = models.CharField(max_length=64, primary_key=True)
    tries = models.PositiveIntegerField(default=0)
    until = models.DateTimeField(db_index=True)

    class Meta:
        default_permissions = ()

    def __str__(self) -> str:
        return self.who
