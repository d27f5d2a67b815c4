"""The version of this package, as it was installed."""

from importlib.metadata import PackageNotFoundError, version

try:
    __version__ = version("caisson-sandbox")
except PackageNotFoundError:  # Run from a source tree that was never installed.
    __version__ = "0+source"

USER_AGENT = f"caisson-python/{__version__}"
