"""What is read from headers of real files against what their observatory's archive says of them."""
