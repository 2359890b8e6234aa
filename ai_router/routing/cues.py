"""Words that hint at a category, in several languages: features of the classifier, and by themselves its baseline.

A Latin word is meant from its beginning on ("translat" is in "translate" and "translation"), or whole where it ends
with a space; scripts without spaces are looked for anywhere.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

CATEGORIES = ("coding", "math", "reasoning", "creative", "research", "translation", "extraction", "general")
TERM = "term"  # a word of programming, which does not make a prompt one of coding by itself

# The vocabulary of the field.
_TERMS = """abstract class|access control|acid |adjacency|agile|ajax|amortized|annotation|anonymous function|argument |
    assertion|asynchronous|attribute|authentication|authorization|b-tree|backend|backtracking|bandwidth|base case|
    big o|binary heap|binary number|binary search|bit |bitwise|bloom filter|boolean|branch |breadth-first|breakpoint|
    browser|btree|bubble sort|buffer|build system|bytecode|byte |callback|cdn |checksum|cipher|client-side|cluster|
    code review|collision|column|compiler|complexity|composite key|concurrency|config|connection pool|constraint|
    constructor|container|context manager|continuous integration|control flow|cookie|coroutine|cors |cpu |cron|csrf|
    cursor|cyclic|data structure|data type|data warehouse|deadlock|dependency|depth-first|deque|deserializ|
    design pattern|destructor|dictionary|dict |directed graph|disjoint set|divide and conquer|dns |document store|dom |
    dom|duck typing|dynamic programming|edge case|encapsulation|encoding|encryption|endpoint|enum|environment variable|
    escape character|event loop|event-driven|expression|f-string|fifo|file descriptor|firewall|fixture|flag |
    floating point|floating-point|form field|fragmentation|frontend|full-text|functional programming|generator|
    graph |graphql|greedy|hash |hashing|hashmap|header|heap |heap sort|heapsort|hook |hostname|hoisting|http method|
    https|idempot|immutab|import statement|in-memory|infinite loop|inheritance|inner join|insertion sort|instance|
    integer|interpreter|interrupt|ip address|isolation level|javascript|join |json |jwt |kernel |key-value|keyword arg|
    lambda|latency|lazy|lexical|lifo|linear search|linter|list comprehension|load balanc|localhost|localstorage|lock |
    log file|logging|machine code|magic method|main memory|map-reduce|mapreduce|markup|materialized|memoiz|memory leak|
    merge conflict|merge sort|message queue|metadata|method |microservice|middleware|migration|mixin|mock |
    multiprocess|multithread|mutable|namespace|nested |network |node |nonce|normal form|normaliz|nosql|not null|
    null value|object |objects |operating system|operator|optimi|orm |os |outer join|overflow|overloading|overriding|
    package |packet|pagination|parallel|parameter|parser|parsing|partition|password hash|patch |payload|pep 8|
    permission|persistence|pipeline|pivot|placeholder|pointer|port |precondition|preorder|prepared statement|
    priority queue|process |production|profil|promise|property |protocol|proxy|pseudocode|pull request|push |python|
    quicksort|quick sort|race condition|radix|ram |random access|rdbms|read replica|rebase|red-black|redis|
    redirect|refactor|reference count|referential|relational|render|replica|request |response code|rest |rollback|
    root node|router|runtime|sandbox|schema|scope |sdk |search tree|segment tree|self |semaphore|serializ|session|
    sharding|shared memory|side effect|single page|singleton|slice |slicing|socket|software|solid principle|sort |
    sorting|source code|spanning tree|sparse|spa |sql|ssh |ssl |stable sort|stack |starvation|state machine|
    statement|static |status code|stored procedure|stream|string |strings |struct |subclass|subquery|superclass|
    symlink|syntax|system call|tail call|technical debt|template|test-driven|testing|three-way|throttl|thread|
    time complexity|tls |token|topological|traversal|traverse|tree |trees |trie |trigger|try |tuple|two-phase|type |
    typing|undirected|unicode|union-find|unique constraint|unit test|upsert|uri |url |utf-8|uuid|validation|
    variable|vector |version control|view |virtual dom|virtual env|virtual machine|virtual memory|virtualenv|web app|
    web page|web server|web socket|webhook|webpack|websocket|weighted|while |wildcard|window function|worker|
    write-ahead|xml |xss |yaml|yield|np-|turing|halting|automaton|automata|regular language|linear time|quadratic time|
    logarithmic time|constant time|exponential time|where clause|select |group by|order by|having clause|truncate|
    delete |drop table|alter table|insert |update |distinct|rows |row |table scan|vacuum|denormaliz|olap|oltp|
    cap theorem|avl|skip list|suffix|load factor|hash function|circular|ring buffer|linked|margin|padding|flexbox|
    selector|favicon|viewport|responsive|tag |tags |div |span |meta |dunder|enumerate|zip |range |kwargs|args|gil |
    with statement|for loop|if statement|switch |break |continue statement|comprehension|unpack|slots|interning|
    open source|cloud|cache|gpu |ssd |scrum|kanban|semantic version|firmware|malware|phishing|backup|latency|
    throughput|scalab|availab|fault toleran|eventual consisten|consisten|durab|atomic|commit |merge |fork |clone |
    diff |stash|cherry-pick|daemon|signal |swap |page table|paging|scheduler|context switch|assembly|opcode|register|
    two's complement|hexadecimal|ascii|compression|lossless|huffman|dijkstra|prim|kruskal|heuristic|a* |minimax"""
_WORDS: Mapping[str, str] = {
    "coding": """python|javascript|typescript|java |rust |golang|c++|c# |sql |bash|shell |script|function|funktion |
        función|fonction |código|code |codes |coding|compil|bug |debug|stack |queue|algorithm|algorithmus|algorithme|
        algoritmo|array|regex|regular expression|database|datenbank|base de données|base de datos|api |git |docker|
        html |css |react|npm |pip |pytest|unit test|class in |object-oriented|programm|programa|mutex|thread|pointer|
        zeiger |linked list|hash table|hash map|binary tree|recursi|refactor|exception|error:|typeerror|segfault|
        segmentation fault|null |async|await|closure|decorator|iterator|json file|csv-|http |tcp |foreign key|
        primary key|index on|transaction|garbage collect|inherit|polymorph|interface |module|library |framework|
        command line|repository|commit|loop |schleife|bucle|boucle|variable |query|docstring|software|server |cache |
        クラス|関数|コード|スクリプト|プログラム|データベース|エラー|配列|アルゴリズム|スタック|再帰|
        代码|函数|编程|算法|数据库|递归|数组|程序""",
    "math": """calculat|compute |solve |equation|gleichung|ecuación|équation|derivative|ableitung|derivada|dérivée|
        differentiate|integral|integrate|prove |proof|beweis|demuestra|démontre|theorem|probability|percent|prozent|
        pour cent|por ciento|por cien|how much is|square root|divide|multipl|sum of|product of|produit de|matrix|
        determinant|eigenvalue|polynomial|factor the|factorise|simplify|fraction|area of|perimeter|circumference|
        radius|volume of|average speed|km/h|vitesse moyenne|how many seconds|berechne|löse |wie viel ist|bestimme|
        nullstelle|calcule|calcula|cuánto es|quanto é|combien font|résous|resuelve|converge|variance|modulo|
        greatest common|least common|interest|discount|descuento|decimal|round |evaluate|series |limit of|
        計算|方程式|微分|積分|求め|最大公約数|平方|何円|いくらですか|証明|いくつですか|
        计算|方程|平方|面积|证明|解方|求方|多少钱|除以""",
    "reasoning": """taller|shortest|older than|oldest|youngest|älter|jüngste|größer als|faster than|ahead of|left of|
        right of|next to|links von|rechts von|sits |sit in|sitzt|follow from|does it follow|follows logically|
        conclusion|conclude|infer |premise|premises|valid|fallacy|logic|logisch|raison|razona|reasoning|step by step|
        schritt für schritt|paso a paso|étape par étape|riddle|puzzle|rätsel|devinette|adivinanza|
        liar|lies |lies,|telling the truth|tells the truth|odd one out|does not belong|passt nicht|comes next|
        is to |who is the|wer ist der|quién es la más|folgt|deduce|déduire|if all|all .* are |implies|imply|
        who lives|which order|valid order|in which order|must be |must visit|culprit|suspect|guilty|coupable|
        gemeinsam|either |weighings|wolf|prisoners|guard|most likely|remains|therefore|なぞなぞ|論理|本当のこと|
        嘘|背が高|から何が言え|右に|左に|すべての.*は|谁最|比.*高|比.*快|谜语|推理|如果所有|判断是""",
    "creative": """poem|poème|poema|gedicht|haiku|haïku|sonnet|limerick|ballad|lyrics|song |canción|chanson|lied |rhyme|
        rhyming|verse|dichte |story|stories|geschichte von|geschichte über|kurze geschichte|histoire drôle|
        histoire d'amour|historia corta|cuento|conte |tale|märchen|fairy|novel|roman |fiction|myth|scene |sketch|
        slogan|tagline|catchy|brainstorm|invent|erfinde|denk dir|lass dir|make up|dream up|come up with|imagine|
        monologue|dialogue|diálogo|diary|toast |speech|witty|funny|lustig|drôle|playful|punny|original name|
        title for|names for|name for|letter from|in the style|as if you|speak as|once upon|bedtime|character|
        俳句|詩を|物語|短歌|キャッチコピー|名前を.*考え|日記|作って|になったつもり|
        写一首|诗|故事|童话|编一个|创意|广告语|想一句""",
    "research": """overview|überblick|aperçu|history of|geschichte der|histoire d|histoire du|historia de|compare |
        vergleich|compara |contrast|advantages|disadvantages|pros and cons|vorteile|nachteile|avantages|inconvénients|
        ventajas|desventajas|benefits and drawbacks|similarities|differences between|differ |unterscheiden|diferencias|
        causes of|causas|consequences|folgen |impact of|influence|auswirkung|effects of|effet|efectos|evidence|
        studies|studien|études|estudios|research|forschung|investigación|literature|findings|meta-anal|theories|theory|
        historians|scientific|scientifique|sources|references|analyse |analyze|assess |discuss |in depth|in detail|
        detailed|ausführlich|en détail|report on|explain how|how does|how do|how did|why did|what caused|factors|
        century|war |revolution|economic|policy|policies|politi|climate|vaccin|immun|photosynth|empire|imperio|
        summarise |summarize |describe the|role did|origin|entsteh|entstand|formaron|what is known|
        背景|影響|概説|比較|長所|短所|仕組み|詳しく|研究|説明して|まとめて|歴史|
        概述|比较|影响|起源|发展|分析|历史|详细|优点|缺点""",
    "translation": """translat|übersetz|traduis|traduire|traduc|traduz|traduza|in english|into english|to english|
        auf englisch|en anglais|al inglés|en inglés|in french|into french|to french|into spanish|in spanish|to german|
        into german|german word|spanish version|into italian|into dutch|in korean|into japanese|to japanese|
        ins deutsche|ins englische|ins spanische|en espagnol|en allemand|en japonés|in portuguese|how do you say|
        wie sagt man|comment dit-on|cómo se dice|mean in english|grammar|gramática|grammati|grammar|correct |
        korrigier|corrig|proofread|spelling|rechtschreib|fix the|fix this|fix the errors|mistakes|fehler |fautes|
        errores|rephrase|paraphrase|reword|rewrite|formuliere|reformule|reescribe|wording|more polite|höflich|
        plus poli|formal english|plain language|einfacher sprache|british english|this sentence|diesen satz|
        cette phrase|esta frase|shorten|render|[fix]|翻訳|訳して|英語で|英語に|日本語に|直して|修正|文法|敬語|
        丁寧|間違い|翻译|用英语|成英语|语法|语病|修改|改正|改写|书面""",
    "extraction": """extract|extrahier|extrais|extraia|extrae|extraction|json |as json|csv |to csv|table |markdown|
        classify|klassifiz|clasifica|classe |categor|label |tag the|sentiment|stimmung|positiv|negativ|neutral|spam|
        toxic|urgent|tone of|pull |pick out|find all|finde alle|relève|saca todos|list every|list the|identify the|
        names in|name the department|department|dates appear|mentioned in|named in|following text|texte :|text:|
        passage|according to|d'après le texte|según el texto|anhand des|based on the text|from the text|from this|
        in the text|del texto|ce texte|dem text|den text|based only|clause|contract|invoice|receipt|e-mail address|
        phone number|schema|fill |structure the|turn this text|turn these|format this|missing|biography|
        抜き出|抽出|分類|文章|レビュー|感情|提取|分类|情感|表格|转换成json|整理成|下面的文字""",
    "general": """hello|hallo|hi |hey|bonjour|salut|hola|good morning|guten|buenos|buenas|good night|thanks|thank you|
        how are you|who are you|what can you|capital of|hauptstadt|capitale|capital de|recommend|recomiend|gift|
        present for|cook|breakfast|wine|weekend|wear|visit|birthday|sleep |what should i|was soll ich|what do i say|
        who painted|who wrote|how many|largest|tallest|when did|which country|what colour|oi |tudo bem|
        こんにちは|お元気|はじめまして|首都|食べれば|コツ|行ったら|あげたら|你好|早上好|首都|怎样去|吃什么|哪里玩""",
}


@dataclass(frozen=True, slots=True)
class _Cue:
    """What must stand at a place, whether a word must end there, and what must come within `_NEAR` characters of it."""

    text: str
    category: str
    whole: bool = False
    then: str = ""

    def stands(self, low: str, at: int) -> bool:
        """Whether it is in the text at that place."""
        if not low.startswith(self.text, at):
            return False
        end = at + len(self.text)
        if self.whole and low[end : end + 1].isalnum():
            return False
        return not self.then or self.then in low[end : end + _NEAR]


def _table() -> dict[str, list[_Cue]]:
    """The cues by the first character or two that they begin with."""
    table: dict[str, list[_Cue]] = {}
    for category, words in [*_WORDS.items(), (TERM, _TERMS)]:
        for word in words.split("|"):
            said = word.lstrip()
            if said.strip():
                text, _, then = said.strip().partition(".*")
                cue = _Cue(text, category, said.endswith(" "), then)
                table.setdefault(_key(text), []).append(cue)
    return table


def _key(text: str, at: int = 0) -> str:
    return text[at] if text[at] >= _WIDE else text[at : at + 3]


_NEAR = 24
_WIDE = "\u3040"  # from here on, what is written without spaces
_PLACES = re.compile(r"[\u3040-\uffff]|[^\W_\u3040-\uffff]+|\[")
_BY_START = _table()


def found(low: str) -> list[tuple[int, str]]:
    """Where a text in lower case has cues, and of which category."""
    made = []
    for match in _PLACES.finditer(low):
        at = match.start()
        if cues := _BY_START.get(_key(low, at)):
            made += [(at, cue.category) for cue in cues if cue.stands(low, at)]
    return made


def by_cues(text: str) -> str:
    """The category with most cues, `general` where none has any: the baseline."""
    counts = Counter(category for _, category in found(text.lower()) if category != TERM)
    return counts.most_common(1)[0][0] if counts else "general"
