"""PasswordTries goes to access, as LoginAttempts. Its table and its rows stay as they are."""

from django.db import migrations


class Migration(migrations.Migration):

    dependencies = [
        ('bancobot_project', '0001_password_tries'),
        ('access', '0004_login_attempts'),
    ]

    operations = [
        migrations.SeparateDatabaseAndState(state_operations=[migrations.DeleteModel(name='PasswordTries')]),
    ]
