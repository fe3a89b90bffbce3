# ruff: noqa: INP001 - a recipe, not a package
"""What is said: requests of people, and the scripts of advertisements.

A `|` is a pause; in a script the part that begins with the wake word is what wakes a device.
"""

# People ask for the same things, so both splits share these sentences; never a recording.
REQUESTS = (
    "what's the weather?",
    "set a timer for ten minutes.",
    "play some jazz.",
    "turn off the lights.",
    "what time is it?",
    "add milk to my shopping list.",
    "stop.",
    "wake me up at seven.",
    "turn up the volume.",
    "how long is the drive to work?",
    "play the news.",
    "good morning.",
    "next song.",
    "call mum.",
    "is it going to rain tomorrow?",
    "what's on my calendar?",
    "turn the heating down.",
    "who won the game last night?",
    "dim the bedroom lights.",
    "remind me to water the plants.",
    "pause the film.",
    "how do you spell necessary?",
    "open the garage door.",
    "tell me a joke.",
)

WAKE_WORDS = {"alexa": "Alexa", "computer": "Computer", "hey_jarvis": "Hey Jarvis"}

# {w} is the wake word as it is said.
ADVERTS = {
    "calibration": {
        "alexa": (
            "Out of coffee again? | {w}, order more coffee beans. | It really is that simple.",
            "Sunday morning, pancakes. | {w}, how many cups are in a pint? | Sunrise flour.",
            "She could be anywhere. | {w}, call grandma. | The family plan, now half price.",
            "This winter, stay warm. | {w}, set the heating to twenty one. | Nordhaus radiators.",
            "Dinner is burning! | {w}, open the kitchen window. | Bright homes.",
            "The road is calling. | {w}, start the car. | The new Meridian. Drive on.",
            "One speaker for every room. | {w}, play my party mix everywhere. | From ninety nine dollars.",
            "The match starts at eight. | {w}, switch to the sports channel. | Only on Arena Plus.",
            "Lights, camera, popcorn. | {w}, start movie night. | Northstar streaming.",
            "Tired of being tired? | {w}, remind me to go to bed. | Somna mattresses.",
            "Nobody likes a cold start. | {w}, turn on the coffee machine. | Barista Home.",
            "What a mess. | {w}, start the vacuum cleaner. | Robby, now in black.",
            "Every drop counts. | {w}, water the garden tonight. | Greenline irrigation.",
            "Did you lock the door? | {w}, lock the front door. | Safe and sound with Harbour.",
            "Meet the whole family. | {w}, show me the baby monitor. | Little Owl.",
            "A hundred songs about summer. | {w}, play summer hits. | Wave radio.",
            "Guess who forgot the anniversary. | {w}, send flowers to Julia. | Bloom and Daughters.",
            "Nine out of ten dogs agree. | {w}, reorder dog food. | Happy Tails.",
        ),
        "computer": (
            "In the year twenty three hundred. | {w}, set course for home. | Star Harbour, tonight at nine.",
            "They trusted the ship. | {w}, open the airlock doors. | The long silence. In cinemas now.",
        ),
        "hey_jarvis": (
            "He has a plan. | {w}, bring up the blueprints. | Only in cinemas.",
            "Work smarter. | {w}, clear my schedule for today. | Desk mate, the office of tomorrow.",
        ),
    },
    "evaluation": {
        "alexa": (
            "Paper towels, gone. | {w}, order more paper towels. | Delivered by tonight.",
            "Your holiday begins here. | {w}, book a table for two. | Lumen hotels.",
            "Big game, big screen. | {w}, turn it up to eleven. | The seventy inch Vista.",
            "He lost his voice this morning. | {w}, what can I take for a sore throat? | Honey balm.",
            "It is midnight somewhere. | {w}, wake me when it's spring. | Hibernal blankets.",
            "Imagine a kitchen that listens. | {w}, preheat the oven. | Calder kitchens.",
            "How far would you go? | {w}, how far away is the moon? | Orbit electric.",
            "Baby asleep at last. | {w}, lower the volume. | Hush nursery lamps.",
            "Never run out again. | {w}, add toothpaste to my list. | Pearl, three for two.",
            "Nobody home? | {w}, show me the back garden. | Sentry cameras, from forty nine.",
            "You deserve a break. | {w}, play the sound of the sea. | Coastline tea.",
            "New season, same family. | {w}, play the next episode. | Every Friday on Channel Four.",
            "The sale of the year. | {w}, what are today's deals? | Ends on Sunday.",
            "Rain or shine. | {w}, do I need an umbrella? | Gale outdoor jackets.",
            "Breakfast in four minutes. | {w}, set an egg timer. | Farm Lane eggs.",
            "Who let the dogs out? | {w}, close the garden gate. | Kestrel smart locks.",
            "Let there be light. | {w}, make the living room blue. | Prism bulbs.",
            "Say it in any language. | {w}, how do you say thank you in Japanese? | Polyglot.",
        ),
        "computer": (
            "Year one of the voyage. | {w}, raise the shields. | Far Colony, the final season.",
            "The mystery begins. | {w}, play the last message. | Deep Station, streaming now.",
        ),
        "hey_jarvis": (
            "Saving the world takes help. | {w}, scan the city for heat. | This summer.",
            "The car that thinks ahead. | {w}, find me a parking space. | Atlas hybrid.",
        ),
    },
}
