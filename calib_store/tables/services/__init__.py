"""What services on the network answered, kept with the question and the time; the services are asked elsewhere."""
