"""Master darks, bad pixel masks and flats: how they are made, checked and compared."""
