select id, late, sent, city, distance, weight from parcels
