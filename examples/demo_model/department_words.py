"""Names, departments, sentences and distractors of the department generator."""

from __future__ import annotations

from textlists import items, lines, words

FIRST = words(
    "James Mary Robert Patricia John Linda Michael Elena David Barbara William Susan Richard Jessica Joseph Sarah "
    "Thomas Karen Carlos Nancy Daniel Lisa Matthew Betty Anthony Margaret Mark Sandra Paul Ashley Steven Emily "
    "Andrew Donna Kenji Michelle Joshua Carol Kevin Amanda Brian Melissa George Deborah Timothy Stephanie Ronald "
    "Rebecca Edward Sharon Jason Laura Jeffrey Cynthia Ryan Kathleen Jacob Amy Gary Angela Nicholas Anna Eric Ruth "
    "Jonathan Brenda Wei Pamela Yuki Nicole Priya Katherine Raj Samantha Ahmed Christine Fatima Olga Ivan Ingrid "
    "Lars Sofia Marco Giulia Pierre Chloe Hans Greta Hiroshi Aiko Min-jun Soo-jin Chen Mei Omar Layla Kwame Amina "
    "Diego Lucia Mateo Valentina Andrei Natalia Dmitri Katarina Tariq Noor Arjun Deepa"
)
HELD_FIRST = words("Oliver Beatrice Felix Yasmin Takeshi Ximena Bogdan Hana Leila Gustav Farid Noriko Ewa Callum")
LAST = words(
    "Smith Johnson Williams Brown Jones Garcia Miller Davis Rodriguez Martinez Hernandez Lopez Gonzalez Wilson "
    "Anderson Thomas Taylor Moore Jackson Martin Lee Perez Thompson White Harris Sanchez Clark Ramirez Lewis "
    "Robinson Walker Young Allen King Wright Scott Torres Nguyen Hill Flores Green Adams Nelson Baker Hall Rivera "
    "Campbell Mitchell Carter Roberts Tanaka Suzuki Sato Watanabe Yamamoto Kim Park Choi Chen Wang Zhang Liu Li "
    "Patel Singh Kumar Sharma Gupta Khan Ali Hassan Ibrahim Okafor Mensah Diallo Petrov Ivanov Novak Kowalski "
    "Schmidt Mueller Weber Fischer Rossi Bianchi Ferrari Dubois Laurent Moreau Silva Santos Costa Oliveira "
    "Johansson Lindberg Nielsen Hansen Virtanen O'Brien Murphy Kelly MacDonald Fraser Cohen Levy Goldberg Haddad"
)
HELD_LAST = words("Abernathy Kurosawa Lindqvist Bhattacharya Delacroix Ferreira Osei Papadopoulos Quinn Rahman Vos")

SYLLABLES = words(
    "a an ar be bel bo bri ca car cha chi da de del di do dra du e el en er es fa fe fin flo ga gen go gra gu ha hel "
    "hi ho hu i ib il in is ja je jo ju ka ke ki ko kri ku la le li lin lo lu ma me mi mo mu na ne ni no nor nu o ol "
    "on or os pa pe pi po pra qui ra re ri ro ru sa se shi si so stra su ta te ti to tra tsu tu u ul ur va ve vi vo "
    "wa we wi wo xi ya ye yo yu za ze zi zo b d f g k l m n p r s t v x y z th ck nd ng sch ff tt ss ez ov sky son"
)

DEPARTMENTS = items(
    """Computer Science|Mechanical Engineering|Electrical Engineering|Civil Engineering|Chemical Engineering
Biomedical Engineering|Aerospace Engineering|Industrial Engineering|Materials Science|Nuclear Engineering
Physics|Chemistry|Biology|Mathematics|Statistics|Economics|History|Philosophy|Psychology|Sociology|Anthropology
Political Science|Linguistics|English|Geography|Geology|Astronomy|Music|Theater|Art History|Classics
Religious Studies|Religion|Neuroscience|Biochemistry|Microbiology|Genetics|Ecology|Zoology|Botany|Entomology
Plant Science|Animal Science|Food Science|Soil Science|Horticulture|Forestry|Marine Biology|Oceanography
Atmospheric Science|Environmental Science|Environmental Engineering|Earth Sciences|Geophysics|Applied Physics
Applied Mathematics|Computer Engineering|Software Engineering|Data Science|Information Systems
Information Science|Cognitive Science|Education|Curriculum and Instruction|Special Education|Nursing|Pharmacy
Public Health|Epidemiology|Biostatistics|Nutrition|Kinesiology|Physical Therapy|Occupational Therapy|Surgery
Pediatrics|Psychiatry|Neurology|Radiology|Pathology|Anesthesiology|Dermatology|Ophthalmology|Internal Medicine
Family Medicine|Emergency Medicine|Physiology|Pharmacology|Immunology|Molecular Biology|Cell Biology
Developmental Biology|Evolutionary Biology|Bioengineering|Bioinformatics|Computational Biology|Accounting
Finance|Marketing|Management|Entrepreneurship|Operations Research|Business Administration|Law|Criminology
Criminal Justice|Social Work|Public Policy|Public Administration|International Relations|Urban Planning
Architecture|Landscape Architecture|Interior Design|Graphic Design|Fine Arts|Film Studies|Media Studies
Communication|Journalism|Gender Studies|African American Studies|Asian Studies|East Asian Languages
Romance Languages|German Studies|French|Spanish|Slavic Studies|Near Eastern Studies|Comparative Literature
Creative Writing|Dance|Petroleum Engineering|Mining Engineering|Agricultural Economics|Agronomy
Veterinary Medicine|Library Science|Robotics|Systems Engineering|Engineering Mechanics|Astrophysics
Materials Science and Engineering|Electrical and Computer Engineering|Civil and Environmental Engineering
Physics and Astronomy|Chemistry and Biochemistry|Mathematics and Statistics|Ecology and Evolutionary Biology
Sociology and Anthropology|Earth and Planetary Sciences|Speech and Hearing Sciences|Human Development"""
)

FIELDS = items(
    "machine learning|fluid dynamics|medieval trade|quantum optics|protein folding|labor markets|urban history"
    "|number theory|computer vision|natural language processing|cancer genetics|soil chemistry|climate models"
    "|constitutional law|modern poetry|coral reefs|robot navigation|graph algorithms|battery materials|brain imaging"
    "|child development|distributed systems|organic synthesis|galaxy formation|ancient pottery|game theory"
    "|public health policy|compiler design|semiconductor devices|bird migration|wind turbines|wireless networks"
    "|human memory|water treatment|plant genetics|opera|network security|bridge design|social inequality"
    "|monetary policy|data privacy|stem cells|volcanoes|translation theory|film history|sleep|nanomaterials"
    "|computational physics|the history of mathematics|the economics of education|biology teaching"
)
UNIVERSITIES = items(
    "Northfield University|the University of Larkmoor|Easton College|Harrow State University|the University of Brackley"
    "|Westmere Institute of Technology|Kestrel University|the University of Odenvale|Saint Alban College"
    "|Rivergate University|Lakeside State University|the Technical University of Marenburg|Fairhaven University"
    "|Stanford University|MIT|the University of Tokyo|the University of Oxford|Cornell University|ETH Zurich"
    "|the University of Michigan|UC Berkeley|Kyoto University|Princeton University|Purdue University"
)
BUILDINGS = items(
    "Gates Hall|Room 214|the Hartley Building|Bell Tower 3|the Science Center|Wren Hall 117|the North Library"
    "|Engineering Hall|the Mathematics Building|Room B12|the Chemistry Annex|Olin Hall|the Physics Tower|Suite 400"
)
TITLES = items(
    "Professor|Associate Professor|Assistant Professor|Lecturer|Senior Lecturer|Research Professor|Adjunct Professor"
    "|Professor Emeritus|Distinguished Professor|Instructor|Teaching Professor|Postdoctoral Fellow"
)

MENTIONS = lines(
    """{n} is a {t} in the Department of {d} at {u}.
{n} is a {t} of the {d} Department at {u}.
{n}, {t}, Department of {d}, {u}.
{n} joined the Department of {d} in {y}.
{n} joined the {d} department at {u} in {y}.
{t} {n} works in the Department of {d}.
Since {y}, {n} has taught in the Department of {d} at {u}.
{n} is the chair of the Department of {d}.
{n} chairs the {d} department.
Department of {d}, {u}.
Department: {d}.
Dept. of {d}, {u}.
{n} | {t} | Department of {d} | {u}
{n} - {t} - {d} Department
{n} holds an appointment in the Department of {d}.
The Department of {d} welcomed {n} as {t} in {y}.
{n} is a faculty member in the Department of {d}.
{n} is on the faculty of the {d} Department.
As a {t} in the Department of {d}, {n} studies {f}.
{n} (Department of {d}) works on {f}.
Dr. {n} is {t} and head of the Department of {d} at {u}.
{n} teaches {f} in the {d} department.
{u}, Department of {d}: {n}, {t}.
{n} serves as director of graduate studies in the Department of {d}.
Home department: {d}.
{n} came to the Department of {d} after working at {u}.
The {d} Department at {u} lists {n} as {t}.
{n} leads a group on {f} within the Department of {d}.
Affiliation: Department of {d}, {u}.
{n} was appointed {t} in the Department of {d} in {y}.
Contact the Department of {d} to reach {n}.
{n} is a member of the Department of {d}."""
)
HELD_MENTIONS = lines(
    """{n} has been a {t} with the Department of {d} since {y}.
Welcome to the page of {n}, {t} in the {d} Department of {u}.
In {y}, the Department of {d} at {u} hired {n}.
{t} {n} belongs to the Department of {d}.
{n}, who studies {f}, is based in the Department of {d} at {u}.
{n} directs the undergraduate program of the {d} department.
Faculty profile: {n}, Department of {d}.
{n} moved to the Department of {d} at {u} in {y}.
{u} Department of {d} faculty: {n}
Within the Department of {d}, {n} runs a laboratory for {f}."""
)
OTHERS = lines(
    """{n} is a {t} at {u}.
{n} studies {f} and {g}.
Research interests include {f} and {g}.
{n} received a PhD from {u} in {y}.
{n} teaches courses on {f}.
Office: {b}.
Email: {e}@example.edu.
{n} joined {u} in {y}.
{n} has published more than {k} papers on {f}.
{n} won a teaching award in {y}.
The work of {n} focuses on {f}.
{n} was a visiting scholar at {u}.
{n} is the author of a book about {f}.
Before coming to {u}, {n} worked in industry.
{t} {n} gives talks about {f}.
{n} leads a laboratory at {u}.
Office hours are in {b} on Tuesdays.
{n} earned a master's degree from {u}.
Phone: 555-01{k}.
{n} is interested in {f}.
{n} serves on the editorial board of a journal about {f}.
{n}, {t}, {u}
{n} received funding for research on {f} in {y}.
{n} grew up near {u} and likes hiking.
{n} has advised {k} doctoral students.
{n} has been a {t} of {f} at {u} since {y}.
{n} is affiliated with the center for {f} at {u}.
Students of {n} work on {f} and {g}.
{n} holds a degree in {x} from {u}.
{n} lives close to {u} with two cats."""
)
HELD_OTHERS = lines(
    """{n} currently investigates {f}.
Visitors find {n} in {b} on Fridays.
{n} completed a doctorate at {u} in {y}.
Recent talks by {n} cover {f} and {g}.
{n} has taught at {u} for {k} years.
You can write to {e}@example.edu.
{n} edits a newsletter on {f}.
A native of Canada, {n} came to {u} in {y}."""
)
