"""Who we are to a supplier: secrets read where they are kept, each time anew, and put into requests."""
