"""What the teacher is asked about."""

QUESTIONS = ["What is {}?", "Tell me about {}.", "Why is {} important?", "Explain {} in simple words.", "How does {} work?",
             "What is an interesting fact about {}?", "Describe {}.", "What is {} used for?", "How would you explain {} to a child?",
             "What should I know about {}?", "Why do people like {}?", "Give me a tip about {}.", "Where can I find {}?",
             "What makes {} special?", "Can you tell me something about {}?", "What do you know about {}?"]
STARTS = ["How", "What", "Why", "Where", "When", "Who", "Can you", "Tell me", "What is the", "How do I", "How can I", "Why do", "What are",
          "Is it", "Should I", "Give me", "Explain", "Describe", "Which", "Do you", "What should I", "I want to", "I feel", "Could you"]
TOPICS = """
the sun;the moon;the ocean;rain;snow;wind;clouds;lightning;rainbows;volcanoes;earthquakes;rivers;mountains;forests;deserts;islands;glaciers;
winter;summer;spring;autumn;the Earth;Mars;Jupiter;Saturn;the solar system;stars;galaxies;black holes;comets;gravity;light;sound;heat;
electricity;magnetism;energy;atoms;molecules;water;air;oxygen;carbon;iron;gold;silver;salt;sugar;glass;plastic;paper;wood;stone;steel;
photosynthesis;evolution;cells;DNA;genes;bacteria;viruses;vaccines;medicine;the heart;the brain;blood;bones;muscles;skin;sleep;dreams;memory;
exercise;running;swimming;walking;yoga;healthy food;vitamins;vegetables;fruit;apples;bananas;bread;rice;pasta;pizza;soup;cheese;milk;eggs;
chocolate;coffee;tea;honey;cooking;baking;gardening;trees;flowers;roses;grass;seeds;farming;soil;bees;butterflies;ants;spiders;birds;eagles;
owls;penguins;parrots;chickens;ducks;fish;sharks;whales;dolphins;octopuses;turtles;snakes;frogs;crocodiles;dinosaurs;cats;dogs;horses;cows;
sheep;pigs;rabbits;mice;elephants;lions;tigers;bears;wolves;foxes;monkeys;giraffes;zebras;kangaroos;pandas;camels;computers;the internet;
programming;Python;software;robots;artificial intelligence;machine learning;databases;algorithms;phones;cameras;television;radio;satellites;
rockets;airplanes;helicopters;cars;bicycles;trains;ships;submarines;bridges;roads;houses;castles;towers;cities;villages;maps;compasses;clocks;
calendars;batteries;engines;solar power;wind power;nuclear power;recycling;pollution;climate;weather;money;banks;markets;trade;taxes;jobs;
companies;leadership;teamwork;schools;teachers;students;libraries;books;reading;writing;poetry;stories;novels;newspapers;letters;languages;
English;Spanish;Chinese;grammar;music;the piano;the guitar;the violin;drums;singing;dancing;theater;movies;painting;drawing;sculpture;
photography;museums;architecture;history;ancient Rome;ancient Greece;ancient Egypt;the Middle Ages;the Renaissance;democracy;government;law;
justice;freedom;peace;war;science;mathematics;numbers;geometry;algebra;statistics;physics;chemistry;biology;geography;philosophy;psychology;
religion;education;friendship;family;love;happiness;sadness;anger;fear;courage;kindness;honesty;patience;trust;hope;curiosity;creativity;
success;failure;time management;good habits;learning;studying;homework;exams;public speaking;job interviews;travel;France;Italy;Germany;Spain;
Japan;China;India;Canada;Brazil;Mexico;Egypt;Australia;Africa;Europe;Asia;London;Paris;New York;Tokyo;Rome;football;basketball;tennis;baseball;
chess;the Olympics;games;toys;birthdays;holidays;weddings;gifts;clothes;shoes;hats;jewelry;furniture;kitchens;cleaning;washing hands;teeth;
doctors;nurses;firefighters;police;farmers;engineers;scientists;artists;astronauts;pilots;writers;chefs;Albert Einstein;Isaac Newton;
Leonardo da Vinci;William Shakespeare;Mozart;space travel;telescopes;microscopes;the Moon landing;the printing press;the wheel;fire;ice;steam
"""
TOPICS = [t.strip() for t in TOPICS.split(";")]
