"""Reads the events of a changefeed from Kafka, and hands them to a recipe.

    pip install kafka-python
    python kafka_consumer.py localhost:9092 orders-topic warehouse

What was read is committed after the recipe has taken it, so that nothing is lost when this program
dies; what is read twice then is the recipe's to notice.
"""

import argparse
import json

from kafka import KafkaConsumer

from recipes import RECIPES


def consume(brokers, topic, recipe, event_count=None):
    consumer = KafkaConsumer(
        topic,
        bootstrap_servers=brokers.split(","),
        group_id=f"changefeed-{topic}",
        auto_offset_reset="earliest",
        enable_auto_commit=False,
        isolation_level="read_committed",
    )
    taken = 0
    while event_count is None or taken < event_count:
        for messages in consumer.poll(timeout_ms=1000).values():
            for message in messages:
                # Without a value it is a tombstone, for compaction alone; a mark has no operation.
                event = json.loads(message.value) if message.value is not None else {}
                if "operation" in event:
                    recipe.take(event)
                    taken += 1
        consumer.commit()
    consumer.close()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("brokers", help="host:port, more with commas")
    parser.add_argument("topic")
    parser.add_argument("recipe", choices=RECIPES)
    parser.add_argument("--events", type=int, help="end after so many, and print what came of them")
    arguments = parser.parse_args()
    chosen = RECIPES[arguments.recipe]()
    consume(arguments.brokers, arguments.topic, chosen, arguments.events)
    print(json.dumps(chosen.result()))
