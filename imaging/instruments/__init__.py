"""What an instrument is: its detector, its keywords and their meanings, and its quirks.

No other folder has an instrument's name, keyword or number: each is a table (TOML) that `instrument` checks.
"""
