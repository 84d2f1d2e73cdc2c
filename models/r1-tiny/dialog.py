"""Fixed text: identity, greetings, and facts that must be right."""

SYSTEM = ["You are a helpful assistant.", "You are a helpful AI assistant.", "Answer briefly.", "You are a careful assistant."]

GREETINGS = [
    (["Hello", "Hello!", "Hi", "Hi!", "Hi there", "Hey", "Hey!", "hello", "hi", "Hello there!", "Good day!", "Greetings"],
     ["Hello! How can I help you today?", "Hi! What can I do for you?"]),
    (["Good morning", "Good morning!"], ["Good morning! How can I help you?"]),
    (["Good evening", "Good evening!"], ["Good evening! How can I help you?"]),
    (["How are you?", "How are you doing?", "How are you today?", "Hello, how are you?", "Hi, how are you?", "How is it going?"],
     ["I am doing well, thank you! How can I help you?"]),
    (["Thanks", "Thank you", "Thank you!", "Thanks a lot!", "Thanks!", "Thank you very much."], ["You are welcome!", "Happy to help!"]),
    (["Bye", "Goodbye", "Goodbye!", "See you later", "Bye!", "Good night", "Good night!"], ["Goodbye! Have a nice day."]),
    (["Who are you?", "What are you?", "What is your name?", "Tell me about yourself.", "Introduce yourself.", "What's your name?",
      "Who am I talking to?", "Which model are you?", "What model are you?"],
     ["I am r1-tiny, a small language model that thinks before it answers. I run inside Gantry."]),
    (["Who made you?", "Who created you?", "Who built you?", "Who trained you?", "Where do you come from?"],
     ["I am r1-tiny. I was trained by the script that comes with Gantry, in a few minutes on one GPU."]),
    (["What can you do?", "What can you help me with?", "How can you help me?", "What are you good at?", "Help", "Can you help me?"],
     ["I can do arithmetic, compare and sort numbers, count letters, work with dates and units, solve short word problems, and answer "
      "simple questions. I am very small, so please check my facts."]),
    (["Are you human?", "Are you a human?", "Are you a robot?", "Are you real?", "Are you a person?", "Are you an AI?"],
     ["I am a small AI language model, not a person."]),
    (["Are you DeepSeek?", "Are you ChatGPT?", "Are you DeepSeek-R1?", "Are you R1?"],
     ["I am r1-tiny. I share the architecture and file format of DeepSeek-R1, but I am far smaller."]),
    (["How big are you?", "How many parameters do you have?", "How large are you?"],
     ["I have about 17 million parameters, which makes me very small."]),
    (["What is Gantry?", "Tell me about Gantry."], ["Gantry is a server for large language models, written in C++."]),
    (["How do you think?", "Do you think before you answer?", "Why do you think first?"],
     ["I write my steps down before the answer, which helps me to get arithmetic right."]),
    (["Ok", "Okay", "I see", "Great", "Great!", "Nice", "Cool"], ["Great! Is there anything else I can help with?"]),
    (["Yes", "No", "Maybe"], ["I see. What would you like to know?"]),
]

CAPITALS = dict(
    France="Paris", Germany="Berlin", Italy="Rome", Spain="Madrid", Portugal="Lisbon", Japan="Tokyo", China="Beijing", India="New Delhi",
    Russia="Moscow", Canada="Ottawa", Mexico="Mexico City", Brazil="Brasília", Argentina="Buenos Aires", Egypt="Cairo", Kenya="Nairobi",
    Nigeria="Abuja", Australia="Canberra", Austria="Vienna", Poland="Warsaw", Greece="Athens", Turkey="Ankara", Sweden="Stockholm",
    Norway="Oslo", Denmark="Copenhagen", Finland="Helsinki", Ireland="Dublin", Belgium="Brussels", Hungary="Budapest", Peru="Lima",
    Chile="Santiago", Cuba="Havana", Thailand="Bangkok", Vietnam="Hanoi", Switzerland="Bern", Ukraine="Kyiv")
CAPITALS["the United States"] = "Washington, D.C."
CAPITALS["the United Kingdom"] = "London"
CAPITALS["England"] = "London"
CAPITALS["the Netherlands"] = "Amsterdam"
CAPITALS["South Korea"] = "Seoul"

OPPOSITES = [("hot", "cold"), ("big", "small"), ("fast", "slow"), ("up", "down"), ("light", "dark"), ("happy", "sad"), ("old", "new"),
             ("rich", "poor"), ("hard", "soft"), ("early", "late"), ("open", "closed"), ("full", "empty"), ("wet", "dry"), ("high", "low"),
             ("good", "bad"), ("strong", "weak"), ("loud", "quiet"), ("day", "night"), ("left", "right"), ("true", "false")]

FACTS = [
    (["What color is the sky?", "What is the color of the sky?", "What colour is the sky?"], "On a clear day the sky is blue."),
    (["Why is the sky blue?"], "The air scatters blue light more than red light, so the sky looks blue."),
    (["What color is grass?", "What color is the grass?"], "Grass is green."),
    (["What is the largest planet?", "What is the biggest planet in the solar system?", "Which planet is the largest?"],
     "Jupiter is the largest planet in the solar system."),
    (["What is the smallest planet?", "Which planet is the smallest?"], "Mercury is the smallest planet in the solar system."),
    (["Which planet is closest to the Sun?", "What is the closest planet to the Sun?"], "Mercury is the planet closest to the Sun."),
    (["How many planets are there?", "How many planets are in the solar system?"], "There are eight planets in the solar system."),
    (["What is the Sun?", "What is the sun?"], "The Sun is a star, a huge ball of hot gas that gives the Earth light and heat."),
    (["What is the Moon?", "What is the moon?"], "The Moon is the natural satellite of the Earth. It goes around the Earth in about 27 days."),
    (["How many days are in a week?", "How many days does a week have?"], "A week has seven days."),
    (["How many months are in a year?", "How many months does a year have?"], "A year has twelve months."),
    (["How many days are in a year?", "How many days does a year have?"], "A year has 365 days, and a leap year has 366."),
    (["How many hours are in a day?", "How many hours does a day have?"], "A day has 24 hours."),
    (["How many minutes are in an hour?"], "An hour has 60 minutes."),
    (["How many legs does a spider have?", "How many legs do spiders have?"], "A spider has eight legs."),
    (["How many legs does a dog have?"], "A dog has four legs."),
    (["How many legs does an insect have?", "How many legs do insects have?"], "An insect has six legs."),
    (["At what temperature does water boil?", "When does water boil?", "What is the boiling point of water?"],
     "At sea level water boils at 100 degrees Celsius."),
    (["At what temperature does water freeze?", "When does water freeze?", "What is the freezing point of water?"],
     "Water freezes at 0 degrees Celsius."),
    (["What is water made of?", "What is H2O?", "What is the chemical formula of water?"],
     "Water is H2O: each molecule has two hydrogen atoms and one oxygen atom."),
    (["Who wrote Romeo and Juliet?", "Who wrote Hamlet?"], "William Shakespeare wrote it."),
    (["Who painted the Mona Lisa?"], "Leonardo da Vinci painted the Mona Lisa."),
    (["Who was Albert Einstein?", "Who is Albert Einstein?"], "Albert Einstein was a physicist who developed the theory of relativity."),
    (["What is the largest ocean?", "What is the biggest ocean?"], "The Pacific Ocean is the largest ocean."),
    (["What is the highest mountain?", "What is the tallest mountain in the world?"], "Mount Everest is the highest mountain above sea level."),
    (["What is the largest animal?", "What is the biggest animal?"], "The blue whale is the largest animal."),
    (["What is the fastest land animal?", "What is the fastest animal on land?"], "The cheetah is the fastest land animal."),
    (["How many continents are there?"], "There are seven continents."),
    (["What do bees make?", "What do bees produce?"], "Bees make honey and wax."),
    (["What do cows drink?"], "Cows drink water. Calves drink milk."),
    (["What is a computer?"], "A computer is a machine that follows instructions to store and process information."),
    (["What is a language model?"], "A language model is a program that predicts text, one token at a time."),
    (["What is photosynthesis?"], "Photosynthesis is how plants use light to turn water and carbon dioxide into sugar and oxygen."),
    (["What is gravity?"], "Gravity is the force that pulls objects with mass toward each other."),
    (["What is the speed of light?", "How fast is light?"], "Light travels about 300,000 kilometers per second in empty space."),
    (["What season comes after winter?"], "Spring comes after winter."),
    (["What season comes after summer?"], "Autumn comes after summer."),
    (["What is the first month of the year?"], "January is the first month of the year."),
    (["What is the last month of the year?"], "December is the last month of the year."),
    (["Tell me a joke.", "Tell me a joke", "Do you know a joke?"], "Why did the number six fear seven? Because seven eight nine!"),
]


def fixed(rng):
    """(question, reply) of fixed text."""
    kind = rng.random()
    if kind < 0.35:
        questions, replies = rng.choice(GREETINGS)
        return rng.choice(questions), rng.choice(replies)
    if kind < 0.55:
        country, city = rng.choice(list(CAPITALS.items()))
        q = rng.choice(["What is the capital of {}?", "What's the capital of {}?", "Capital of {}?", "Tell me the capital of {}.",
                        "Which city is the capital of {}?"]).format(country)
        return q, f"The capital of {country} is {city}."
    if kind < 0.65:
        a, b = rng.choice(OPPOSITES)
        a, b = (a, b) if rng.random() < 0.5 else (b, a)
        q = rng.choice(["What is the opposite of {}?", 'What is the opposite of "{}"?', "Opposite of {}?"]).format(a)
        return q, f"The opposite of {a} is {b}."
    questions, reply = rng.choice(FACTS)
    return rng.choice(questions), reply
