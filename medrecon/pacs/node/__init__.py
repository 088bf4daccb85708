"""A node that receives series, reconstructs them by rules and sends the results on; nothing is lost.

`read_settings` reads its file, `Node`'s parts are: `intake` (what arrives is on the disk before it is
acknowledged), `queue` (what is to be done, in SQLite), `work` (one job), `service` (all of it together).
"""
