"""What an instrument is: its detector, its keywords and their meanings, and its quirks.

No other folder contains an instrument's name, keyword or number: each instrument is a table (TOML) that
`instrument` checks.
"""
