"""A movie recommender: generated or real ratings, five services, one site. Knows nothing of podlab."""
