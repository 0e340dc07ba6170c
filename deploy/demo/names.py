"""Words that people and titles are made of. Nobody here exists."""


def _words(text: str) -> tuple[str, ...]:
    return tuple(text.split())


SLOTS: dict[str, tuple[str, ...]] = {
    "android": ("Galaxy A54", "Galaxy S24", "Moto G84", "Pixel 8", "Redmi Note 13", "Xperia 5 V", "OnePlus 12"),
    "artist": (
        *("Velvet Harbour", "Mira Sol", "Os Navegantes", "Kalte Sterne", "Nordanvind", "The Paper Comets"),
        *("Ruta Once", "Glass Orchard", "Luna de Cartón", "Holger & die Nachbarn", "Saltwater Choir", "Tomás Verano"),
        *("Ebba Lind", "Nine Tin Soldiers", "Marea Alta", "DJ Capivara", "Low Tide Parade", "Frau Ott"),
    ),
    "browser": ("Firefox", "Chrome", "Edge", "Safari", "Brave", "Vivaldi"),
    "car": ("CarPlay", "Android Auto", "Bluetooth"),
    "code": ("18", "30", "53", "86", "1618", "0x80070057", "101", "4"),
    "device": (
        "iPhone 15",
        "iPhone 13 mini",
        "Pixel 8",
        "Galaxy S24",
        "iPad",
        "Fire HD 10",
        "Chromebook",
        "Galaxy A54",
    ),
    "genre": ("Indie", "Jazz", "Metal", "Folk", "Techno", "Hip-Hop", "Synthwave", "Soul", "Bossa nova", "Punk"),
    "hundred": ("120", "250", "300", "480", "700", "1,100", "1,500", "2,400", "3,000", "5,000"),
    "linux": ("Ubuntu 24.04", "Fedora 41", "Debian 12", "Linux Mint 22", "openSUSE", "Arch"),
    "login": ("Apple", "Google", "Facebook", "PayPal"),
    "n": ("3", "4", "5", "6", "7", "8", "9"),
    "os": ("Windows 11", "Windows 10", "macOS Sonoma", "macOS Sequoia", "Ubuntu 24.04"),
    "phone": (
        *("iPhone 15", "iPhone 14 Pro", "iPhone 12", "iPhone SE", "Pixel 8", "Pixel 7a", "Galaxy S24", "Galaxy S21"),
        *("Galaxy A54", "Redmi Note 13", "Moto G84", "OnePlus 12", "Xperia 5 V", "Fairphone 5"),
    ),
    "plan": ("Premium", "Family", "Duo", "Individual", "Student"),
    "speaker": (
        *("Sonos One", "Sonos Era 100", "Echo Dot", "Nest Mini", "HomePod mini", "Bose Soundbar 600", "JBL Charge 5"),
        *("Chromecast Audio", "Denon AVR-X1700H", "Marshall Acton", "KEF LSX"),
    ),
    "tv": ("Samsung TV", "LG TV", "PS5", "Xbox Series S", "Chromecast", "Fire TV", "Apple TV", "Android TV"),
    "watch": ("Apple Watch", "Galaxy Watch", "Garmin Forerunner", "Garmin Venu 3", "Pixel Watch"),
}

WHEN: dict[str, tuple[str, ...]] = {
    "en": (
        *(" after the latest update", " since yesterday", " since this morning", ", again", ", any ideas?"),
        *(", tried everything", " (reinstalled twice)", " all of a sudden", " – please help"),
    ),
    "es": (
        *(" desde la última actualización", " desde ayer", " otra vez", ", ¿alguna idea?", " de repente"),
        *(" (ya reinstalé)", ", ayuda por favor"),
    ),
    "pt-BR": (
        *(" depois da última atualização", " desde ontem", " de novo", ", alguém sabe?", " do nada"),
        *(" (já reinstalei)", ", socorro"),
    ),
    "de": (
        *(" seit dem letzten Update", " seit gestern", " schon wieder", ", hat jemand eine Idee?", " auf einmal"),
        *(" (schon neu installiert)", " – bitte um Hilfe"),
    ),
    "sv": (
        *(" efter senaste uppdateringen", " sedan igår", " igen", ", någon som vet?", " helt plötsligt"),
        *(" (har installerat om)", " – hjälp"),
    ),
}

FIRST: dict[str, tuple[str, ...]] = {
    "en": _words(
        """
        Amelia Ava Ben Callum Chloe Daniel Dev Ella Ethan Farah Freya George Grace Hannah Harry Imogen Isla Jack
        Jade James Jasmine Joel Kavya Kieran Leo Liam Lucy Maya Megan Mia Nate Niamh Noah Olivia Omar Owen Poppy
        Priya Rachel Rohan Ruby Ryan Sam Sophie Tara Theo Tom Tyler Zoe
        """
    ),
    "es": _words(
        """
        Agustina Alba Alejandro Álvaro Andrés Camila Carla Carmen Catalina Daniela Diego Elena Emilio Fernanda
        Gonzalo Inés Irene Iván Javier Joaquín Julieta Laura Lucía Manuel Marcos Martín Mateo Micaela Natalia
        Nicolás Noelia Pablo Paula Raúl Rocío Rodrigo Santiago Sofía Tomás Valentina Ximena
        """
    ),
    "pt-BR": _words(
        """
        Aline Amanda Ana Arthur Beatriz Bruno Caio Camila Carolina Davi Diego Eduarda Felipe Fernanda Gabriel
        Gustavo Henrique Igor Isabela João Júlia Larissa Letícia Luana Lucas Luiza Marcelo Mariana Mateus
        Natália Paulo Pedro Rafaela Renan Sabrina Tainá Thiago Vinícius Vitória Yasmin
        """
    ),
    "de": _words(
        """
        Anja Anton Bastian Carla Clara David Elias Emil Emma Fabian Finn Franziska Greta Hannes Ida Jakob Jana
        Jonas Jule Katharina Lars Lea Leon Lina Lukas Marie Matthias Mia Moritz Nele Nico Oskar Paul Pia Ronja
        Sebastian Simon Sophie Stefan Theresa Tim Vera
        """
    ),
    "sv": _words(
        """
        Agnes Albin Alma Anton Astrid Axel Ebba Elin Elsa Emil Erik Filip Freja Gustav Hanna Hugo Ida Isak
        Joakim Johanna Kajsa Karin Klara Lars Linnea Love Lovisa Maja Malin Mattias Moa Nils Oskar Petra Rasmus
        Saga Sixten Stina Tilda Viktor Vilma
        """
    ),
}

LAST: dict[str, tuple[str, ...]] = {
    "en": _words(
        """
        Adeyemi Bailey Barker Bennett Brennan Carter Chen Clarke Cooper Doyle Ellis Fletcher Foster Grant Hughes
        Iyer Kapoor Kelly Lawson Marsh McKay Mitchell Morgan Murphy Nguyen Okafor Parker Patel Quinn Reid Rhodes
        Shaw Sinclair Stone Turner Walsh Ward Whitaker Young
        """
    ),
    "es": _words(
        """
        Acosta Aguilar Benítez Cabrera Castro Córdoba Domínguez Duarte Escobar Figueroa Gallardo Herrera Ibáñez
        Lozano Maldonado Márquez Medina Navarro Ortega Paredes Quiroga Ramos Rivas Rojas Salinas Sandoval Torres
        Urrutia Vargas Vega Zamora
        """
    ),
    "pt-BR": _words(
        """
        Almeida Andrade Araújo Barbosa Batista Campos Cardoso Carvalho Castro Dias Duarte Farias Ferreira
        Freitas Gomes Lima Lopes Macedo Martins Melo Moraes Moreira Nascimento Nogueira Pires Ramos Ribeiro
        Rocha Sales Teixeira Vasconcelos
        """
    ),
    "de": _words(
        """
        Albrecht Bauer Becker Böhm Brandt Dietrich Engel Falk Fischer Frank Graf Haas Hartmann Hoffmann Jung
        Kaiser Keller Kuhn Lang Lehmann Lorenz Maurer Neumann Pohl Richter Roth Schäfer Seidel Sommer Vogel
        Winkler Zimmermann
        """
    ),
    "sv": _words(
        """
        Ahlgren Andersson Berg Bergström Björk Dahl Eklund Engström Forsberg Fransson Gustafsson Hedlund Holm
        Isaksson Jansson Karlsson Lind Lindqvist Ljung Lund Nyström Norberg Öberg Persson Sandberg Sjöberg Ström
        Söderlund Wallin Wikström Åkesson
        """
    ),
}

HANDLES = _words(
    """
    amber analog arctic backbeat bass beat cassette chord coral crate disco echo encore falsetto fuzz groove
    hazel hifi indigo jazz lofi loop lunar maple mellow mono moss neon night offbeat opal paper pixel quiet
    radio reverb rhythm sable shuffle silver sleeve stereo sunday tape tempo treble velvet vinyl wax wired
    """
)
CREATURES = _words(
    """
    badger cat comet crow falcon ferret finch fox gecko hare heron kiwi lark lynx magpie moth newt otter owl
    panda puffin raven robin sparrow swift tapir wolf wren
    """
)

PLACES: dict[str, tuple[tuple[str, str, int], ...]] = {
    "en": (
        ("en-US", "America/New_York", 24),
        ("en-US", "America/Los_Angeles", 16),
        ("en-US", "America/Chicago", 12),
        ("en-GB", "Europe/London", 26),
        ("en-IE", "Europe/Dublin", 5),
        ("en-CA", "America/Toronto", 8),
        ("en-AU", "Australia/Sydney", 8),
        ("en-IN", "Asia/Kolkata", 7),
    ),
    "es": (
        ("es-ES", "Europe/Madrid", 40),
        ("es-MX", "America/Mexico_City", 28),
        ("es-AR", "America/Argentina/Buenos_Aires", 18),
        ("es-CO", "America/Bogota", 14),
    ),
    "pt-BR": (("pt-BR", "America/Sao_Paulo", 90), ("pt-BR", "America/Manaus", 10)),
    "de": (("de-DE", "Europe/Berlin", 80), ("de-AT", "Europe/Vienna", 11), ("de-CH", "Europe/Zurich", 9)),
    "sv": (("sv-SE", "Europe/Stockholm", 93), ("sv-FI", "Europe/Helsinki", 7)),
}
"""By language: locale, time zone, weight."""
