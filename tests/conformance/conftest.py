"""Eight virtual devices for every test here, settled before JAX starts."""

from tests.eight_devices import pictures, text

__all__ = ["pictures", "text"]
