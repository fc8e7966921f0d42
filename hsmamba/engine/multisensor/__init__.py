"""Train a fusion network for any images on several images of several sensors, and judge it on those left out."""
