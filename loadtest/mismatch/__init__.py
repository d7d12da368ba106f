"""How often the mode `fast` picks another token in company than alone."""
