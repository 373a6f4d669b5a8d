"""Looking ahead and asking "what if": recorded traffic, staffing forecast, replay through changed rules."""
