"""What the overview is answered from."""

import django.db.models.deletion
from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("sessions_api", "0005_search")]

    operations = [
        migrations.CreateModel(
            name='CountedUntil',
            fields=[
                ('kind', models.CharField(max_length=10, primary_key=True, serialize=False)),
                ('moment', models.DateTimeField()),
            ],
            options={
                'verbose_name': 'counted until',
                'verbose_name_plural': 'counted until',
            },
        ),
        migrations.CreateModel(
            name='SessionCost',
            fields=[
                ('pk', models.CompositePrimaryKey('session_id', 'start', blank=True, editable=False, primary_key=True, serialize=False)),
                ('start', models.DateTimeField(db_index=True)),
                ('turns', models.PositiveIntegerField()),
                ('tokens', models.PositiveBigIntegerField()),
                ('cost', models.DecimalField(decimal_places=12, max_digits=20)),
                ('session', models.ForeignKey(db_constraint=False, db_index=False, on_delete=django.db.models.deletion.CASCADE, related_name='+', to='sessions_api.session')),
            ],
            options={
                'verbose_name': 'cost of a session',
                'verbose_name_plural': 'costs of sessions',
            },
        ),
        migrations.CreateModel(
            name='Tally',
            fields=[
                ('pk', models.CompositePrimaryKey('grain', 'start', 'dimension', 'name', blank=True, editable=False, primary_key=True, serialize=False)),
                ('grain', models.CharField(choices=[('hour', 'hour'), ('day', 'day')], max_length=4)),
                ('start', models.DateTimeField()),
                ('dimension', models.CharField(choices=[('all', 'all'), ('model', 'model'), ('client', 'client'), ('error', 'error')], max_length=6)),
                ('name', models.CharField(blank=True, max_length=200)),
                ('turns', models.PositiveIntegerField()),
                ('failed', models.PositiveIntegerField()),
                ('cancelled', models.PositiveIntegerField()),
                ('prompt_tokens', models.PositiveBigIntegerField()),
                ('completion_tokens', models.PositiveBigIntegerField()),
                ('cost', models.DecimalField(decimal_places=12, max_digits=20)),
                ('first_token', models.JSONField()),
                ('total', models.JSONField()),
            ],
            options={
                'verbose_name': 'tally',
                'verbose_name_plural': 'tallies',
            },
        ),
        migrations.AddIndex(
            model_name='feedback',
            index=models.Index(fields=['rating', 'created_at'], name='feedback_rating'),
        ),
        migrations.AddIndex(
            model_name='message',
            index=models.Index(condition=models.Q(('completed_at__isnull', False), ('runner__gt', '')), fields=['completed_at'], name='message_ended'),
        ),
    ]
