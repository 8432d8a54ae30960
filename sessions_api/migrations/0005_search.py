"""What searching needs."""

from django.db import migrations


class Migration(migrations.Migration):
    dependencies = [("sessions_api", "0004_people")]

    operations = []
