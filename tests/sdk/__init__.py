"""The published SDKs, as real worker processes against a real engine process.  C{environments.py} installs them."""
