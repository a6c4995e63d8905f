"""Cart-pole under a disturber: does H-infinity training survive what random forces do not?"""
