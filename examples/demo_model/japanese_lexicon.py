"""Vocabulary of the Japanese correction generator: nouns by kind, verbs with their frames, adjectives, counters."""

from __future__ import annotations

from typing import NamedTuple

from textlists import words


class Verb(NamedTuple):
    """One verb: dictionary form, conjugation class, and the noun kind and particle it takes.

    `kind` is "u" (godan), "ru" (ichidan), "suru" (noun + する) or "kuru".
    """

    word: str
    kind: str
    nouns: str
    particle: str


NOUNS: dict[str, tuple[str, ...]] = {
    "person": words(
        "私 僕 彼 彼女 父 母 兄 姉 弟 妹 祖父 祖母 友達 学生 息子 娘 医者 店員 選手 画家 作家 歌手 "
        "留学生 田中さん 佐藤さん 鈴木さん 山田さん 高橋さん 中村さん 小林さん 木村さん 林さん 森さん "
        "石井さん 前田さん 井上さん 松本さん キムさん マリアさん ジョンさん リンさん 警察官 看護師 隣の人 "
        "子ども 子供たち 学生たち クラスメート いとこ おばさん おじさん 花子さん 太郎さん"
    ),
    "companion": words(
        "友達 家族 弟 妹 兄 姉 母 父 彼 彼女 同僚 先輩 後輩 田中さん 佐藤さん 鈴木さん 山田さん 子ども "
        "クラスメート 恋人 祖母 祖父 犬 留学生 いとこ"
    ),
    "honored": words(
        "先生 社長 部長 課長 店長 校長先生 教授 お客様 大使 院長 会長 市長 山田先生 田中先生 鈴木社長 佐藤部長 高橋教授"
    ),
    "place": words(
        "図書館 学校 公園 大学 家 会社 駅 病院 銀行 郵便局 レストラン 喫茶店 食堂 教室 台所 庭 海 山 "
        "プール 体育館 美術館 博物館 映画館 スーパー コンビニ デパート 本屋 空港 ホテル 工場 事務所 村 町 "
        "東京 京都 大阪 北海道 沖縄 横浜 神戸 名古屋 広島 奈良 日本 アメリカ 韓国 フランス カフェ 市場 神社 "
        "お寺 部屋 会議室 研究室 寮 居酒屋 動物園 水族館"
    ),
    "food": words(
        "りんご パン ご飯 寿司 ラーメン うどん そば 魚 肉 卵 野菜 果物 みかん バナナ ケーキ カレー 天ぷら "
        "サラダ お菓子 チョコレート アイスクリーム おにぎり 弁当 朝ご飯 昼ご飯 晩ご飯 ピザ スープ 豆腐 ぶどう"
    ),
    "drink": words("水 お茶 コーヒー 紅茶 牛乳 ジュース ビール お酒 ワイン 緑茶 ココア 薬"),
    "text": words("本 新聞 雑誌 手紙 小説 漫画 メール 説明書 教科書 論文 記事 日記 レポート 作文 詩"),
    "watch": words("映画 テレビ ニュース 写真 絵 試合 アニメ ドラマ 花火 桜 星 景色 動画 地図"),
    "listen": words("音楽 ラジオ 歌 ニュース 講義 話 説明 クラシック ジャズ 意見"),
    "buy": words(
        "車 靴 服 帽子 傘 切符 時計 かばん 辞書 カメラ パソコン 野菜 牛乳 花 自転車 財布 お土産 本 雑誌 "
        "机 椅子 シャツ 携帯電話 冷蔵庫 指輪 眼鏡"
    ),
    "study": words("日本語 英語 数学 歴史 中国語 フランス語 化学 物理 経済 法律 文法 漢字 音楽 文学"),
    "tool": words("鉛筆 ペン はさみ 辞書 傘 パソコン 電話 ナイフ 消しゴム 鍵 箸 カメラ タオル"),
    "vehicle": words("バス 電車 タクシー 飛行機 船 地下鉄 自転車 新幹線 バイク 車"),
    "wear": words("着物 シャツ コート セーター 制服 スーツ ドレス 上着 浴衣"),
    "animal": words("犬 猫 鳥 馬 うさぎ 牛 魚 猿 象 羊 亀 ねずみ"),
    "thing": words("本 机 椅子 時計 かばん 花 傘 鍵 写真 箱 辞書 手紙 地図 財布 新聞 電話 カメラ 皿 荷物 人形"),
    "open": words("ドア 窓 箱 店 門 カーテン 引き出し"),
    "lamp": words("電気 テレビ エアコン ラジオ 明かり パソコン ストーブ"),
    "sport": words("サッカー 野球 テニス 水泳 バスケットボール 卓球 柔道 バレーボール スキー"),
    "skill": words("料理 歌 ピアノ 英語 日本語 水泳 テニス ギター 絵 ダンス 数学 サッカー 書道 運転 将棋 中国語"),
    "like": words(
        "猫 犬 音楽 映画 寿司 読書 旅行 料理 夏 冬 海 山 コーヒー 果物 野球 サッカー 漫画 アニメ 春 秋 花 "
        "甘いもの 日本の歌 数学 紅茶 ケーキ 動物"
    ),
    "position": words("上 下 中 前 後ろ 隣 横 近く"),
    "base": words("机 椅子 箱 駅 家 ベッド 学校 棚 本棚 木 銀行 テーブル 公園 病院 車 冷蔵庫"),
    "meet": words("友達 先生 田中さん 彼女 彼 家族 先輩 鈴木さん 社長 医者 お客様 祖母 教授 キムさん"),
    "gift": words("本 花 時計 お菓子 プレゼント 手紙 写真 帽子 切符 お土産 ケーキ 財布 辞書 ネクタイ 指輪"),
    "event": words("会議 試験 パーティー 授業 コンサート 旅行 試合 運動会 面接 結婚式 発表 祭り"),
    "activity": words("旅行 映画 試験 料理 パーティー 仕事 授業 試合 夏休み 本 ゲーム 話"),
}

VERBS: tuple[Verb, ...] = (
    Verb("食べる", "ru", "food", "を"),
    Verb("飲む", "u", "drink", "を"),
    Verb("読む", "u", "text", "を"),
    Verb("書く", "u", "text", "を"),
    Verb("見る", "ru", "watch", "を"),
    Verb("聞く", "u", "listen", "を"),
    Verb("買う", "u", "buy", "を"),
    Verb("売る", "u", "buy", "を"),
    Verb("勉強する", "suru", "study", "を"),
    Verb("教える", "ru", "study", "を"),
    Verb("習う", "u", "skill", "を"),
    Verb("作る", "u", "food", "を"),
    Verb("使う", "u", "tool", "を"),
    Verb("探す", "u", "thing", "を"),
    Verb("忘れる", "ru", "thing", "を"),
    Verb("洗う", "u", "wear", "を"),
    Verb("着る", "ru", "wear", "を"),
    Verb("脱ぐ", "u", "wear", "を"),
    Verb("待つ", "u", "meet", "を"),
    Verb("手伝う", "u", "meet", "を"),
    Verb("呼ぶ", "u", "meet", "を"),
    Verb("撮る", "u", "watch", "を"),
    Verb("借りる", "ru", "text", "を"),
    Verb("返す", "u", "text", "を"),
    Verb("練習する", "suru", "skill", "を"),
    Verb("注文する", "suru", "food", "を"),
    Verb("準備する", "suru", "event", "を"),
    Verb("運転する", "suru", "vehicle", "を"),
    Verb("直す", "u", "thing", "を"),
    Verb("運ぶ", "u", "thing", "を"),
    Verb("捨てる", "ru", "thing", "を"),
    Verb("集める", "ru", "thing", "を"),
    Verb("覚える", "ru", "study", "を"),
    Verb("選ぶ", "u", "gift", "を"),
    Verb("置く", "u", "thing", "を"),
    Verb("持つ", "u", "thing", "を"),
    Verb("送る", "u", "gift", "を"),
    Verb("研究する", "suru", "study", "を"),
    Verb("会う", "u", "meet", "に"),
    Verb("乗る", "u", "vehicle", "に"),
    Verb("電話する", "suru", "meet", "に"),
    Verb("参加する", "suru", "event", "に"),
    Verb("行く", "u", "place", "に"),
    Verb("来る", "kuru", "place", "に"),
    Verb("帰る", "u", "place", "に"),
    Verb("着く", "u", "place", "に"),
    Verb("入る", "u", "place", "に"),
    Verb("住む", "u", "place", "に"),
    Verb("到着する", "suru", "place", "に"),
    Verb("出かける", "ru", "place", "に"),
)

INTRANSITIVE: tuple[Verb, ...] = (
    Verb("働く", "u", "", ""),
    Verb("泳ぐ", "u", "", ""),
    Verb("遊ぶ", "u", "", ""),
    Verb("休む", "u", "", ""),
    Verb("寝る", "ru", "", ""),
    Verb("走る", "u", "", ""),
    Verb("歌う", "u", "", ""),
    Verb("話す", "u", "", ""),
    Verb("散歩する", "suru", "", ""),
    Verb("踊る", "u", "", ""),
    Verb("勉強する", "suru", "", ""),
    Verb("笑う", "u", "", ""),
    Verb("待つ", "u", "", ""),
    Verb("運動する", "suru", "", ""),
    Verb("起きる", "ru", "", ""),
    Verb("歩く", "u", "", ""),
)

PAST_TIMES = words("昨日 先週 先月 去年 おととい 昨夜 一週間前 三日前 昨日の朝 先週の土曜日 この前")
FUTURE_TIMES = words("明日 来週 来月 来年 あさって 明日の朝 来週の月曜日 今晩 今度の日曜日 一週間後")
HABIT_TIMES = words("毎日 毎朝 毎晩 毎週 いつも よく ときどき 毎年 週末に 朝 夜")

I_ADJECTIVES = words(
    "高い 安い 新しい 古い 大きい 小さい 楽しい 難しい 面白い 寒い 暑い 忙しい 美味しい 長い 短い 早い 遅い "
    "広い 狭い 重い 軽い 明るい 暗い 強い 弱い 優しい 厳しい 嬉しい 悲しい 寂しい 近い 遠い 危ない 珍しい "
    "美しい 甘い 辛い 白い 黒い 赤い 青い 若い 怖い 痛い 涼しい 暖かい"
)
NA_ADJECTIVES = words(
    "静か きれい 元気 有名 親切 便利 不便 簡単 大切 丈夫 賑やか 大変 真面目 安全 複雑 立派 自由 豊か 健康 "
    "特別 重要 正直 丁寧 必要"
)

MANNERS = words("早い 遅い 楽しい 優しい 静か 元気 丁寧 真面目 正直 自由 強い 親切")

TOPICS: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "place": (
        words("町 部屋 公園 ホテル 図書館 レストラン 学校 村 家 教室 駅"),
        words("静か きれい 有名 便利 不便 賑やか 安全 立派 広い 狭い 新しい 古い 大きい 小さい 明るい 暗い 遠い 近い"),
    ),
    "person": (
        words("先生 友達 店員 学生 医者 看護師 人 母 兄 選手"),
        words("元気 有名 親切 真面目 正直 丁寧 立派 優しい 厳しい 若い 強い 忙しい 面白い"),
    ),
    "thing": (
        words("車 かばん 靴 時計 机 本 傘 服 辞書 カメラ 椅子 帽子 写真"),
        words(
            "丈夫 きれい 便利 大切 特別 必要 高い 安い 新しい 古い 大きい 小さい 重い 軽い 白い 黒い 赤い 青い 珍しい"
        ),
    ),
    "task": (
        words("問題 試験 仕事 宿題 授業 説明 質問 話 計画 練習"),
        words("簡単 大変 大切 複雑 重要 必要 難しい 面白い 長い 短い 楽しい 厳しい"),
    ),
    "food": (
        words("料理 ケーキ 果物 カレー スープ 寿司 コーヒー 野菜"),
        words("美味しい 甘い 辛い 安い 高い 珍しい 有名 特別"),
    ),
    "weather": (
        words("天気 冬 夏 朝 夜 山の上 今日 ここ"),
        words("寒い 暑い 涼しい 暖かい"),
    ),
}

COUNTERS: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "本": (
        words("鉛筆 ペン 傘 木 ビール バナナ 花 ネクタイ"),
        words("一本 二本 三本 四本 五本 六本 十本"),
    ),
    "枚": (
        words("紙 切符 写真 シャツ 皿 切手 チケット タオル"),
        words("一枚 二枚 三枚 四枚 五枚 六枚 十枚"),
    ),
    "冊": (words("本 雑誌 辞書 漫画 ノート 教科書 小説"), words("一冊 二冊 三冊 四冊 五冊 六冊 十冊")),
    "匹": (words("犬 猫 魚 ねずみ 亀"), words("一匹 二匹 三匹 四匹 五匹 六匹 十匹")),
    "人": (
        words("学生 子ども 友達 先生 店員 医者 留学生 選手"),
        words("一人 二人 三人 四人 五人 六人 十人"),
    ),
    "台": (words("車 自転車 パソコン テレビ カメラ バス"), words("一台 二台 三台 四台 五台 六台 十台")),
    "杯": (words("コーヒー お茶 水 ジュース 紅茶 牛乳"), words("一杯 二杯 三杯 四杯 五杯 六杯 十杯")),
    "足": (words("靴 靴下"), words("一足 二足 三足 四足 五足 六足 十足")),
    "軒": (words("家 店 ホテル レストラン"), words("一軒 二軒 三軒 四軒 五軒 六軒 十軒")),
}

TRANSITIVITY: tuple[tuple[str, str, str], ...] = (
    ("open", "開ける", "開く"),
    ("open", "閉める", "閉まる"),
    ("lamp", "つける", "つく"),
    ("lamp", "消す", "消える"),
    ("event", "始める", "始まる"),
    ("thing", "落とす", "落ちる"),
    ("thing", "壊す", "壊れる"),
    ("vehicle", "止める", "止まる"),
    ("thing", "見つける", "見つかる"),
)

HONORIFICS: tuple[tuple[str, str, str, str], ...] = (
    # noun kind, particle, plain polite stem, honorific polite stem
    ("place", "に", "行き", "いらっしゃい"),
    ("place", "に", "来", "いらっしゃい"),
    ("place", "に", "い", "いらっしゃい"),
    ("food", "を", "食べ", "召し上がり"),
    ("drink", "を", "飲み", "召し上がり"),
    ("watch", "を", "見", "ご覧になり"),
    ("sport", "を", "し", "なさい"),
    ("text", "を", "読み", "お読みになり"),
    ("text", "を", "書き", "お書きになり"),
    ("thing", "を", "使い", "お使いになり"),
    ("event", "に", "出", "お出になり"),
    ("meet", "に", "会い", "お会いになり"),
    ("place", "に", "帰り", "お帰りになり"),
)
