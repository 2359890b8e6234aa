"""Questions outside the three skills, all answered with one sentence that says what the model knows."""

from __future__ import annotations

import random

from questions import message_row, noisy
from textlists import items

REFUSAL = "I only know short answers about programming, corrections of Japanese sentences and department names."
_THINGS = items(
    """the capital of France|the tallest mountain|a good pasta recipe|the moon|football
the weather|bread|photosynthesis
the French Revolution|gravity|jazz|chess|tea|elephants|volcanoes|the stock market
my horoscope|coffee|gardening|yoga
the Roman Empire|dinosaurs|the ocean|a healthy diet|guitar chords|the speed of light
black holes|the Olympics|tulips
the human heart|vitamin C|the population of Brazil|a haiku|the Great Wall|whales
inflation|democracy|opera|pizza
sunscreen|the price of gold|a passport|the theory of evolution|electric cars|swimming|the best phone|marathons
the northern lights|penguins|a mortgage|winter tires|Shakespeare|the piano|carbon dioxide
the Sahara|cheese|rice
a birthday party|my neighbour|the bus to the airport|headaches|the president|the news|love|happiness
the meaning of life|wine|rugby|knitting|the Amazon river|Mars|snow|a good film
ancient Egypt|thunder|honey|the dentist|chocolate|camping"""
)
_ASK = items(
    """What is {x}?|Tell me about {x}.|Explain {x}.|What do you think about {x}?
Write a poem about {x}.|Who invented {x}?
Where can I find {x}?|Write a story about {x}.|How do I learn about {x}?|Describe {x}.|Why is {x} important?
When was {x} discovered?|Give me ten facts about {x}.|How much does {x} cost?
Do you like {x}?|Tell me a joke about {x}.
What is the history of {x}?|How old is {x}?|Translate "{x}" into German.|Write a song about {x}."""
)
_PLAIN = items(
    """Hello|Hi|Hi there!|Good morning|How are you?|Who are you?|What can you do?
What is your name?|Tell me a joke.
What time is it?|What is 2 + 2?|What is 17 times 23?|Who won the match yesterday?|Are you human?|Thanks|Bye
What is the weather like today?|Write a poem.|Translate this into French: good evening
Help|Help me|Test|Ping|asdf
What should I cook tonight?|How do I get to the station?|Who is the king of Spain?|こんにちは|お元気ですか。|ありがとう
What is today's date?|Say hello.|Sing a song.|What do you know?|Which skills do you have?|Count to ten."""
)


def rows(seed: int, count: int) -> list[dict[str, object]]:
    """`count` rows about other topics, the same for the same arguments."""
    rng = random.Random(f"other-{seed}")
    found = []
    for _ in range(count):
        plain = rng.random() < 0.35
        prompt = rng.choice(_PLAIN) if plain else rng.choice(_ASK).format(x=rng.choice(_THINGS))
        found.append(message_row(noisy(prompt, rng) if rng.random() < 0.6 else prompt, REFUSAL, rng))
    return found
