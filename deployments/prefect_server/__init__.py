"""The Prefect server of nirflow: started, found again, stopped; and the application that it serves."""
