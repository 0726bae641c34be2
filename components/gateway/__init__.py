"""The one door before Triton: who may ask, what is asked, which release answers, and a receipt for every answer."""
