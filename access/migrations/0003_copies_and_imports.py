from django.db import migrations, models


class Migration(migrations.Migration):

    replaces = [('access', '0003_forked'), ('access', '0004_imported')]

    dependencies = [
        ('access', '0002_audit_is_append_only'),
    ]

    operations = [
        migrations.AlterField(
            model_name='auditentry',
            name='action',
            field=models.CharField(choices=[('sessions.listed', 'listed sessions'), ('session.read', 'read a session'), ('sessions.exported', 'exported sessions'), ('sessions.imported', 'imported sessions'), ('session.changed', 'changed a session'), ('session.forked', 'copied a session'), ('session.closed', 'closed a session'), ('session.erased', 'erased a session'), ('sessions.purged', 'purged sessions'), ('client.created', 'created a client'), ('client.changed', 'changed a client'), ('key.created', 'created a key'), ('key.revoked', 'revoked a key'), ('login', 'logged in'), ('login.failed', 'failed to log in'), ('login.locked', 'was locked out'), ('logout', 'logged out'), ('user.changed', "changed a user or the user's rights"), ('group.changed', 'changed a group or its rights')], max_length=30, verbose_name='what'),
        ),
    ]
