"""How search fares as the table grows: recall, times, memory, and what writes cost."""
