-- Stores routes of a project, all or none.
--
-- KEYS     the hash of its routes, the set of its topics
-- ARGV     how many routes follow, then an event type and its topic for each, "" for the configured one, then the topics
--          that may hold unread events
-- returns  the routes that are stored now, as HGETALL does, and the topics

local routes, topics, count = KEYS[1], KEYS[2], tonumber(ARGV[1])
for i = 2, 2 * count, 2 do
  if ARGV[i + 1] == '' then
    redis.call('HDEL', routes, ARGV[i])
  else
    redis.call('HSET', routes, ARGV[i], ARGV[i + 1])
  end
end
redis.call('SADD', topics, unpack(ARGV, 2 * count + 2))
return {redis.call('HGETALL', routes), redis.call('SMEMBERS', topics)}
