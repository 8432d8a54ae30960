"""LoginAttempts comes from bancobot_project, where it was PasswordTries. Its table and its rows stay as they are."""

from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('access', '0003_copies_and_imports'),
        ('bancobot_project', '0001_password_tries'),
    ]

    operations = [
        migrations.SeparateDatabaseAndState(
            state_operations=[
                migrations.CreateModel(
                    name='LoginAttempts',
                    fields=[
                        ('who', models.CharField(max_length=64, primary_key=True, serialize=False)),
                        ('tries', models.PositiveIntegerField(default=0)),
                        ('until', models.DateTimeField(db_index=True)),
                    ],
                    options={
                        'db_table': 'bancobot_project_passwordtries',
                        'default_permissions': (),
                    },
                ),
            ],
        ),
    ]
