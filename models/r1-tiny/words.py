"""Word lists for the reasoning tasks."""

WORDS = """
apple banana orange cherry grape lemon melon peach strawberry blueberry raspberry pineapple tomato potato carrot onion pepper garlic
cabbage lettuce spinach bread butter cheese coffee sugar honey chocolate cookie dinner breakfast kitchen table chair window door garden
house bottle spoon knife fork plate mirror carpet pillow blanket bedroom bathroom ceiling basement balcony cat dog horse rabbit tiger lion
monkey elephant giraffe zebra kangaroo penguin dolphin whale shark turtle snake lizard spider butterfly mosquito chicken turkey pigeon eagle
parrot sparrow squirrel hamster hedgehog beaver buffalo leopard crocodile alligator octopus lobster animal insect flower forest mountain river
ocean island desert valley beach meadow jungle volcano glacier canyon waterfall rainbow thunder lightning weather summer winter spring autumn
morning evening midnight yesterday tomorrow calendar minute hour second monday tuesday wednesday thursday friday saturday sunday january
february october november december school teacher student pencil paper notebook library science history geography mathematics language
grammar letter sentence paragraph dictionary question answer problem solution example number circle square triangle rectangle pyramid
sphere cylinder yellow purple orange green black white silver golden crimson violet computer keyboard monitor printer internet program software
hardware network database algorithm function variable machine engine battery electric magnet telescope microscope satellite rocket planet
galaxy universe gravity energy oxygen hydrogen carbon nitrogen helium sodium copper crystal diamond emerald marble concrete bridge tunnel tower
castle palace temple church museum theater hospital pharmacy restaurant bakery market factory airport station highway bicycle motorcycle truck
airplane helicopter submarine sailboat ticket luggage passport journey adventure vacation holiday birthday wedding festival concert orchestra
guitar piano violin trumpet drum music melody rhythm singer dancer painter sculptor author poet doctor nurse lawyer farmer baker butcher
carpenter plumber soldier sailor pilot captain engineer scientist president minister king queen prince princess knight wizard dragon giant
ghost monster treasure pirate mystery secret message envelope stamp package basket bucket ladder hammer scissors needle thread button
pocket jacket sweater trousers glove scarf umbrella necklace bracelet football basketball baseball tennis hockey swimming running victory
champion medal trophy family mother father brother sister daughter cousin uncle neighbor friend stranger visitor happiness sadness anger
courage wisdom freedom justice peace beauty kindness patience honesty friendship memory dream imagination knowledge education experience
success failure mistake business company manager customer product money dollar market account budget balance address country village city
capital border nation people person children parent baby shoulder finger stomach muscle skeleton brain heart blood medicine vitamin exercise
hello world water light night right thing think thank three eight seven eleven twelve twenty thirty hundred thousand million little yellow
better summer coffee bottle rabbit kettle puzzle bubble balloon giggle marble mississippi committee bookkeeper level radar civic kayak
""".split()
WORDS = sorted(set(WORDS))

NAMES = ["Anna", "Ben", "Carla", "David", "Emma", "Frank", "Grace", "Henry", "Iris", "Jack", "Kate", "Leo", "Maria", "Noah", "Olivia", "Paul",
         "Rosa", "Sam", "Tom", "Lucy", "Peter", "Sarah", "Alice", "Bob"]
ITEMS = ["apple", "book", "pen", "pencil", "ball", "card", "coin", "cookie", "egg", "flower", "marble", "orange", "shell", "stamp", "sticker",
         "toy", "cup", "hat", "ticket", "candle"]
PLACES = ["market", "park", "school", "beach", "library", "station", "garden", "museum", "farm", "store"]
MONTHS = [("January", 31), ("February", 28), ("March", 31), ("April", 30), ("May", 31), ("June", 30), ("July", 31), ("August", 31),
          ("September", 30), ("October", 31), ("November", 30), ("December", 31)]
