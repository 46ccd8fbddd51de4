"""From raw counts to electrons without dark current and pixel response."""
