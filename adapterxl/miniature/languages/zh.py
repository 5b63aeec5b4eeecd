"""Chinese: no spaces, no inflection, measure words, places between 在 and 里, comparison with 比."""

from __future__ import annotations

from adapterxl.miniature.grammar import Language, columns, names, verb_templates

_NAMES = {
    "anna": "安娜", "maria": "玛丽亚", "clara": "克拉拉", "nina": "尼娜", "julia": "朱莉娅", "daniel": "丹尼尔",
    "martin": "马丁", "viktor": "维克托", "robert": "罗伯特", "anton": "安东", "lena moreno": "莉娜 · 莫雷诺",
    "eva rossi": "伊娃 · 罗西", "david rossi": "大卫 · 罗西", "thomas moreno": "托马斯 · 莫雷诺",
}  # fmt: skip
# Noun | measure word; only what one can have needs one.
_NOUNS = columns("""
dog | 狗
cat | 猫
horse | 马
cow | 牛
mouse | 老鼠
bird | 鸟
duck | 鸭子
rabbit | 兔子
goat | 山羊
tiger | 老虎
book | 书 | 本
key | 钥匙 | 把
lamp | 灯 | 盏
letter | 信 | 封
bag | 包 | 个
cup | 杯子 | 个
box | 盒子 | 个
ball | 球 | 个
hat | 帽子 | 顶
map | 地图 | 张
apple | 苹果 | 个
chair | 椅子 | 把
table | 桌子 | 张
coat | 大衣 | 件
bottle | 瓶子 | 个
camera | 相机 | 台
""")
_PLACES = {
    "kitchen": "厨房", "garden": "花园", "school": "学校", "park": "公园", "market": "市场", "library": "图书馆",
    "hospital": "医院", "museum": "博物馆", "office": "办公室", "restaurant": "餐厅", "church": "教堂",
    "forest": "森林", "station": "车站", "theatre": "剧院",
}  # fmt: skip
_CITIES = {
    "london": "伦敦", "berlin": "柏林", "madrid": "马德里", "moscow": "莫斯科", "ankara": "安卡拉", "beijing": "北京",
    "paris": "巴黎", "rome": "罗马", "vienna": "维也纳", "cairo": "开罗", "new york": "纽约", "tokyo": "东京",
}  # fmt: skip
_BRANDS = {"nova": "诺瓦", "orion": "奥里昂", "delta": "德尔塔", "sigma": "西格玛"}
_COLOURS = {
    "red": "红色", "blue": "蓝色", "green": "绿色", "white": "白色", "black": "黑色", "yellow": "黄色", "new": "新",
    "old": "旧",
}  # fmt: skip


def _phrase(thing: str, form: str, colour: str | None) -> str:
    if thing in _NAMES:
        return names(_NAMES[thing], "PER").replace("·/PROPN", "·/PUNCT")
    if thing in _CITIES:
        return f"在/ADP {names(_CITIES[thing], 'LOC')}"
    if thing in _PLACES:
        return f"在/VERB {_PLACES[thing]}/NOUN 里/ADP"  # the predicate, here
    if thing not in _NOUNS:
        brand, kind = thing.split()
        name = f"{_BRANDS[brand]} 银行" if kind == "bank" else f"{_CITIES[brand]} 酒店"
        return f"在/ADP {names(name, 'ORG')}"
    noun, *measure = _NOUNS[thing]
    if colour is None:
        return f"{noun}/NOUN"
    return f"一/NUM {measure[0]}/NOUN {_COLOURS[colour]}/ADJ 的/PART {noun}/NOUN"


def _compare(relation: str, word: str) -> dict[str, str]:
    return {relation: f"{{subject}} 比/ADP {{object}} {word}/ADJ"}


LANGUAGE = Language(
    code="zh",
    templates={
        "at": "{subject} {object.in}",
        "not at": "{subject} 不/ADV {object.in}",
        "ask at object": "{subject} 在/VERB 哪里/PRON",
        "ask at subject": "谁/PRON {object.in}",
        "lives": "{subject} 住/VERB {object}",
        "ask lives object": "{subject} 住/VERB 在/ADP 哪里/PRON",
        "ask lives subject": "谁/PRON 住/VERB {object}",
        "works": "{subject} {object} 工作/VERB",
        "ask works object": "{subject} 在/ADP 哪里/PRON 工作/VERB",
        "ask works subject": "谁/PRON {object} 工作/VERB",
        "has": "{subject} 有/VERB {object}",
        "ask has object": "{subject} 有/VERB 什么/PRON",
        "ask has subject": "谁/PRON 有/VERB {object}",
        **_compare("bigger", "大"), **_compare("smaller", "小"), **_compare("heavier", "重"),
        **_compare("lighter", "轻"), **_compare("faster", "快"), **_compare("slower", "慢"),
        **_compare("older", "年长"), **_compare("younger", "年轻"),
        "behind": "{subject} 在/VERB {object} 后面/NOUN",
        "ask behind subject": "什么/PRON 在/VERB {object} 后面/NOUN",
        "in front": "{subject} 在/VERB {object} 前面/NOUN",
        "ask in front subject": "什么/PRON 在/VERB {object} 前面/NOUN",
        "gives": "{subject} 把/ADP {object} 给/VERB {third}",
        "ask gives subject": "谁/PRON 把/ADP {object} 给/VERB {third}",
        "ask gives third": "谁/PRON 得到/VERB {object}",
        "gets": "{subject} 从/ADP {third} 那里/PRON 得到/VERB {object}",
        "ask gets subject": "谁/PRON 得到/VERB {object}",
        "ask gets third": "谁/PRON 把/ADP {object} 给/VERB {subject}",
        **verb_templates("{subject} VERB {object}", "谁/PRON VERB {object}", {
            "sees": "看见/VERB", "loves": "爱/VERB", "seeks": "寻找/VERB", "finds": "找到/VERB", "buys": "买/VERB",
        }),
    },
    phrase=_phrase,
    adverbs={"today": "今天/NOUN", "now": "现在/NOUN"},
    verdicts={"entailment": "对/ADJ", "contradiction": "错/ADJ", "neutral": "未知/ADJ"},
    joint="，/PUNCT",
    spaced=False,
    stop="。/PUNCT",
    ask=("", "？/PUNCT"),
)  # fmt: skip
