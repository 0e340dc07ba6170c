"""``stars up --demo``: a help forum of a music streaming service, invented, with years of history and live traffic."""

from deploy.demo.living import Demo, DemoFailed

__all__ = ["Demo", "DemoFailed"]
