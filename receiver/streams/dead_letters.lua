-- Adds an entry to the dead letters of a topic, once for each group, however often it is called.
--
-- KEYS[1]  the topic of the dead letters
-- KEYS[2]  the mark of this entry and group, in the cluster slot of that topic
-- ARGV     the seconds for which the mark is kept, then the fields and values of the dead letter
-- returns  1 if it was added, 0 if it was there

if redis.call('EXISTS', KEYS[2]) == 1 then
    return 0
end
-- The mark first: if it cannot be written (an access list forbids it), a second call would add the entry again.
redis.call('SET', KEYS[2], '', 'EX', ARGV[1])
local added = redis.pcall('XADD', KEYS[1], '*', unpack(ARGV, 2))
if added.err then
    redis.call('DEL', KEYS[2])
    return added
end
return 1
