"""A few paragraphs on which the cost of rounding is measured: prose, dialogue, code, data, and two languages.

Written for this project. They are a thermometer, not a benchmark: they say how far a rounded model has moved from the
model that it was made of, not how good either is.
"""

from __future__ import annotations

from typing import Final

__all__ = ["TEXTS"]

TEXTS: Final = (
    "The lighthouse had been dark for eleven years when the council sold it to a carpenter and her brother. "
    "They came in March, with a van full of tools and a dog that was afraid of gulls, and for the first "
    "weeks they did nothing but carry out what the sea had carried in: sand, rope, the door of a boat. "
    "People in the village made bets. Some said that they would leave before the autumn storms, others that "
    "the roof would leave first. Neither happened. By October there was smoke above the chimney, and on the "
    "last evening of the month, a little after six, the lamp turned again.",
    "Water boils at a lower temperature on a mountain than at the coast, because the air above it is thinner "
    "and presses less on its surface. At sea level it takes one hundred degrees Celsius; at three thousand "
    "metres about ninety are enough. Cooks notice it: potatoes need longer, although the water in the pot "
    "moves just as wildly. A lid with a valve helps, since it keeps the steam inside until the pressure is "
    "as high as it would be in the valley.",
    "Anna: Did you finish the report? \n"
    "Ben: Almost. The numbers for June are missing.\n"
    "Anna: I sent them on Tuesday. Look for a message with the subject 'June, second try'.\n"
    "Ben: Found it. Why is the total larger than the sum of the parts?\n"
    "Anna: Because two customers were counted twice. Please take the second table, not the first.\n"
    "Ben: Thank you. Then it will be done in an hour.",
    "def moving_average(values, width):\n"
    '    """Returns the mean of each window of `width` values."""\n'
    "    if width < 1 or width > len(values):\n"
    '        raise ValueError("width must be between 1 and the number of values")\n'
    "    total = sum(values[:width])\n"
    "    means = [total / width]\n"
    "    for index in range(width, len(values)):\n"
    "        total += values[index] - values[index - width]\n"
    "        means.append(total / width)\n"
    "    return means\n",
    '{"order": 4711, "customer": {"name": "Ida Holm", "city": "Bergen"}, "items": [{"article": "lamp", '
    '"number": 2, "price": 39.5}, {"article": "cable", "number": 5, "price": 4.2}], "paid": false, "total": '
    "100.0}",
    "Am Morgen lag Schnee auf den Dächern, und die Straßenbahn kam zwanzig Minuten zu spät. Niemand "
    "beschwerte sich. Ein Mann verteilte Pfefferminzbonbons, zwei Schülerinnen zählten die Krähen auf der "
    "Leitung, und als die Bahn endlich um die Ecke bog, klatschten alle, als hätte der Fahrer ein Kunststück "
    "vollbracht.",
)
