"""Makes a model smaller and faster, and keeps what this machine finds to be so.

It imports shared and nothing else of the cloud.
"""
