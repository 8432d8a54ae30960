"""What the overview is answered from."""

from django.db import migrations


class Migration(migrations.Migration):
    dependencies = [("sessions_api", "0005_search")]

    operations = []
