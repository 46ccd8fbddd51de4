"""Master darks, bad pixel masks and flats: how they are made, judged and compared."""
