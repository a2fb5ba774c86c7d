"""Ways of breaking what is promised of production."""

from dev.mutations.mutation import Mutation

CLIPS = "data/production/words/clips.py"
PRETRAIN = "data/production/pretrain_to_clips.py"
STORE = "data/production/runner/store.py"
ENGINES = "data/production/runner/runners.py"
LINK = "data/production/runner/step.py"
RUN = "data/production/run.py"
LEDGER = "utils/ledger.py"
SPENDING = "utils/spending.py"
ENDPOINT = "utils/endpoint.py"

INPUT_TESTS = "tests/test_production_inputs.py"
CAPTION_TESTS = "tests/test_production_captions.py"
WORD_TESTS = "tests/test_production_words.py"
RUN_TESTS = "tests/test_production_run.py"
RAY_TESTS = "tests/test_production_ray.py"
QUALITY_TESTS = "tests/test_production_quality.py"
REPORT_TESTS = "tests/test_production_report.py"
PROMPT_TESTS = "tests/test_production_prompts.py"
ENDPOINT_TESTS = "tests/test_endpoint.py"
LEDGER_TESTS = "tests/test_ledger.py"

INPUTS = (
    Mutation(
        name="captions_in_the_wrong_language",
        promise="Captions are read in the first of the languages asked for that a video has.",
        file="data/production/inputs/folder_input.py",
        old="                return place, (exact.index(language)",
        new="                return -place, (exact.index(language)",
        tests=(f"{INPUT_TESTS}::test_the_first_language_of_which_there_are_captions_is_read",),
        quick=True,
    ),
    Mutation(
        name="rolled_lines_said_twice",
        promise="A line that rolls through several cues of automatic captions is read once.",
        file="data/production/words/caption_files.py",
        old="        n_old = _n_rolled(before, shown) if rolls else 0",
        new="        n_old = 0",
        tests=(f"{CAPTION_TESTS}::test_every_word_comes_out_once_and_in_order",),
    ),
    Mutation(
        name="captions_lose_their_hours",
        promise="Captions have the times that their file states.",
        file="data/production/words/caption_files.py",
        old="    return ((int(hours or 0) * 60 + int(minutes)) * 60 + int(seconds))",
        new="    return (int(minutes) * 60 + int(seconds))",
        tests=(f"{CAPTION_TESTS}::test_plain_captions_are_those_that_ffmpeg_reads",),
    ),
    Mutation(
        name="small_videos_kept",
        promise="The metadata filter rejects videos below the height asked for.",
        file="data/production/metadata_filter.py",
        old="        elif least is not None and value < least:",
        new="        elif least is not None and value < 0:",
        tests=(f"{WORD_TESTS}::test_metadata",),
    ),
)

CUTTING = (
    Mutation(
        name="clips_last_word_lost",
        promise="Every word of a video comes out once, in a clip or in a rejected part; the published code lost one.",
        file=CLIPS,
        old="        words = transcript.words(part.start, part.stop)",
        new="        words = transcript.words(part.start, max(part.stop - 1, part.start + 1))",
        tests=(f"{WORD_TESTS}::test_the_last_word_and_a_clip_that_starts_at_the",),
        quick=True,
    ),
    Mutation(
        name="clips_last_word_lost_from_captions",
        promise="Every word of the captions comes out once.",
        file=PRETRAIN,
        old="            for piece in cut_by_length(transcript.starts_ms, ends_ms, *run, o.max_s)",
        new="            for piece in cut_by_length(transcript.starts_ms, ends_ms, run[0], run[1] - 1, o.max_s)",
        tests=(f"{WORD_TESTS}::test_no_word_of_captions_is_lost_or_doubled",),
    ),
    Mutation(
        name="immediate_repeats_kept",
        promise="A caption that says the same as the one before it is left out and counted.",
        file=PRETRAIN,
        old="    repeated = {i for before, i in pairwise(places) if lines[before] == lines[i]}",
        new="    repeated = set()",
        tests=(f"{RUN_TESTS}::test_a_sample_says_what_its_video_says_there_and_before",),
    ),
    Mutation(
        name="caption_with_a_bracket_kept",
        promise="Captions with a bracket, such as (applause), become no words.",
        file=PRETRAIN,
        old='BRACKETS = "[](){}"',
        new='BRACKETS = "[]{}"',
        tests=(f"{RUN_TESTS}::test_a_sample_says_what_its_video_says_there_and_before",),
    ),
    Mutation(
        name="gap_limit_ignored",
        promise="A clip ends where nobody speaks for over 3 seconds.",
        file=CLIPS,
        old="    cuts = (np.flatnonzero(np.diff(times_ms) > round(max_gap_s * 1000)) + 1).tolist()",
        new="    cuts = []",
        tests=(f"{WORD_TESTS}::test_a_clip_ends_where_the_next_word_ends_over_three_seconds_later",),
    ),
    Mutation(
        name="words_per_second_limit_ignored",
        promise="Clips have at most 4 words a second.",
        file=PRETRAIN,
        old="        if speed > o.max_words_per_s:",
        new="        if speed > 100 * o.max_words_per_s:",
        tests=(f"{WORD_TESTS}::test_limits_of_a_clip",),
    ),
    Mutation(
        name="slow_speech_kept",
        promise="Clips have at least a word a second.",
        file=PRETRAIN,
        old="        if speed < o.min_words_per_s:",
        new="        if speed < o.min_words_per_s / 100:",
        tests=(f"{WORD_TESTS}::test_limits_of_a_clip",),
    ),
    Mutation(
        name="sentence_start_ignored",
        promise="A clip for SFT starts where a sentence does.",
        file=CLIPS,
        old="        if i > start and not ENDS_SENTENCE.search(texts[i - 1]):",
        new="        if False:",
        tests=(f"{WORD_TESTS}::test_no_recognised_word_is_lost_or_doubled",),
    ),
    Mutation(
        name="previous_of_another_video",
        promise="A clip's earlier speech is all that was said before it in its own video.",
        file=CLIPS,
        old='    text = " ".join(joined)  # earlier speech is a beginning of it',
        new='    text = make_parts.__dict__.setdefault("first", " ".join(joined))',
        tests=(f"{RUN_TESTS}::test_a_sample_says_what_its_video_says_there_and_before",),
    ),
    Mutation(
        name="overlapping_captions_as_they_are",
        promise="Where captions overlap the earlier one ends where the later one begins.",
        file=PRETRAIN,
        old="    untangle(start, end, np.cumsum([0, *n_lines]))",
        new="    n_lines = list(n_lines)",
        tests=(f"{WORD_TESTS}::test_even_split_overlaps_and_captions_at_one_time",),
    ),
    Mutation(
        name="channel_is_parted",
        promise="Channels are held out as a whole.",
        file="data/production/held_out_split.py",
        old='        owner = record.channel or record.id.partition("#")[0]',
        new='        owner = record.id.partition("#")[0]',
        tests=(f"{WORD_TESTS}::test_a_channel_is_held_out_as_a_whole",),
    ),
)

RUNS = (
    Mutation(
        name="rejected_records_kept",
        promise="What a stage rejects goes no further, and stands in rejected.jsonl alone.",
        file="data/production/runner/step_run.py",
        old="        are_kept = [record.rejection is None for record in records]",
        new="        are_kept = [True for record in records]",
        tests=(f"{RUN_TESTS}::test_every_word_is_in_the_output_once",),
    ),
    Mutation(
        name="failed_record_lands_in_output",
        promise="A record on which a stage fails is kept apart with its cause.",
        file="data/production/runner/step_run.py",
        old="    return record.reject(stage.name, str(cause), detail[:DETAIL_CHARACTERS], failed=True)",
        new="    return record",
        tests=(f"{RUN_TESTS}::test_failures_are_recorded_and_retried_alone",),
    ),
    Mutation(
        name="failed_records_are_known_by_bytes",
        promise="failed.jsonl holds the records on which a stage failed, whatever fields an input has.",
        file="data/production/record.py",
        old="""    return orjson.loads(line).get("rejection", {}).get("failed", False)""",
        new="""    return b'"failed":true' in line""",
        tests=(f"{RUN_TESTS}::test_an_input_may_have_fields_named_like_ours",),
    ),
    Mutation(
        name="held_out_sample_also_in_training_output",
        promise="Nothing of a held-out channel is in the training file.",
        file="data/production/output/jsonl.py",
        old='                files.add(names[HELD_OUT if is_held_out else ""], orjson.dumps(sample), options.seeks)',
        new="""                for part in ["", HELD_OUT] if is_held_out else [""]:
                    files.add(names[part], orjson.dumps(sample), options.seeks)""",
        tests=(f"{RUN_TESTS}::test_output_is_what_training_reads",),
    ),
    Mutation(
        name="seeks_count_characters",
        promise="The last line of a training file lists the byte offset of every line, not its letters.",
        file="data/production/append_jsonl_seeks.py",
        old="        self._at += len(line) + 1",
        new="        self._at += len(line.decode()) + 1",
        tests=(f"{RUN_TESTS}::test_output_is_what_training_reads",),
    ),
    Mutation(
        name="resumed_run_does_a_record_twice",
        promise="Where a few records of a shard differ, only these are worked on.",
        file=STORE,
        old="        return self._results.get(digest)",
        new="        return None",
        tests=(f"{RUN_TESTS}::test_nothing_runs_twice_and_a_change_runs_what_depends_on_it",),
    ),
    Mutation(
        name="killed_run_starts_over",
        promise="A kill loses at most the shards in work.",
        file=STORE,
        old="    value = orjson.loads(path.read_bytes())",
        new='    value = orjson.loads(path.read_bytes() and b"{}")',
        tests=(f"{RUN_TESTS}::test_killed_and_resumed_here[1]",),
    ),
    Mutation(
        name="finished_shards_run_again",
        promise="The same command again does nothing.",
        file=STORE,
        old="            return marker if self._is_whole(step, shard, marker) else None",
        new="            return None",
        tests=(f"{RUN_TESTS}::test_nothing_runs_twice_and_a_change_runs_what_depends_on_it",),
    ),
    Mutation(
        name="killed_run_loses_a_record",
        promise="The shard of a process that died is tried again.",
        file="data/production/runner/pool.py",
        old="        todo.appendleft(task)",
        new="        task = None",
        tests=(f"{RUN_TESTS}::test_a_record_that_kills_its_process_fails_alone",),
    ),
    Mutation(
        name="a_death_fails_the_whole_batch",
        promise="A record on which a process dies fails alone.",
        file="data/production/runner/shard_task.py",
        old="        return replace(self, suspects=self.suspects | set(trying))",
        new="        return replace(self, suspects=self.suspects | set(trying), poisonous=frozenset(trying))",
        tests=(f"{RUN_TESTS}::test_a_record_that_kills_its_process_fails_alone",),
    ),
    Mutation(
        name="kept_work_that_lost_its_end_counts",
        promise="Kept work that a full disk cut short is made again.",
        file=STORE,
        old="        return self.kept_path(step, shard, marker).stat().st_size == marker.size",
        new="        return self.kept_path(step, shard, marker).stat().st_size >= 0",
        tests=(f"{RUN_TESTS}::test_kept_work_that_has_lost_its_end_is_made_again",),
    ),
    Mutation(
        name="run_lock_locks_nothing",
        promise="Only one run works in a folder at a time.",
        file=RUN,
        old="            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)",
        new="            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)",
        tests=(f"{RUN_TESTS}::test_one_run_at_a_time_works_in_a_folder_and_its_workers_end_with_it",),
    ),
    Mutation(
        name="workers_outlive_their_run",
        promise="Processes end with the run that started them, also when it is killed.",
        file="data/production/runner/pool.py",
        old="    threading.Thread(target=_end_with_owner, daemon=True).start()",
        new="",
        tests=(f"{RUN_TESTS}::test_one_run_at_a_time_works_in_a_folder_and_its_workers_end_with_it",),
    ),
    Mutation(
        name="threshold_measures_again",
        promise="A changed threshold runs only the decision again, not the measurement.",
        file=LINK,
        old="        options = _deciding(stage.options, thresholds=not has_judge)",
        new="        options = _deciding(stage.options)",
        tests=(f"{RUN_TESTS}::test_nothing_runs_twice_and_a_change_runs_what_depends_on_it",),
    ),
    Mutation(
        name="options_without_effect_run_again",
        promise="Options that cannot change the output run nothing again.",
        file=LINK,
        old='    names = [name for name in asdict(options) if not has_flag(options, name, "side")]',
        new="    names = list(asdict(options))",
        tests=(f"{RUN_TESTS}::test_nothing_runs_twice_and_a_change_runs_what_depends_on_it",),
    ),
    Mutation(
        name="max_failed_ignored",
        promise="A run ends when more than --max_failed of a stage's records failed.",
        file=RUN,
        old="count.n_failed > max_failed * count.n_in:",
        new="count.n_failed > count.n_in:",
        tests=(f"{RUN_TESTS}::test_too_many_failures_end_the_run",),
    ),
    Mutation(
        name="failures_end_with_status_0",
        promise="The exit status is 3 where records failed.",
        file=RUN,
        old="    return 3 if result.n_failed else 0",
        new="    return 0",
        tests=(f"{RUN_TESTS}::test_failures_are_recorded_and_retried_alone",),
    ),
    Mutation(
        name="prune_deletes_nothing",
        promise="--prune deletes kept work that the config does not use.",
        file=RUN,
        old="        if _place_of(path) not in result.used:",
        new="        if not path.exists():",
        tests=(f"{RUN_TESTS}::test_prune_deletes_what_the_config_does_not_use_and_nothing_else",),
    ),
    Mutation(
        name="half_a_gpu_taken_whole",
        promise="A stage has a worker for each share of a GPU that it asks for.",
        file=ENGINES,
        old="for _ in range(max(1, int(1 / first.gpus)))]",
        new="for _ in range(1)]",
        tests=(f"{RUN_TESTS}::test_gpu_stages_have_a_worker_for_each_share",),
    ),
    Mutation(
        name="parquet_column_swapped",
        promise="The columns of the parquet files say what their names say.",
        file="data/production/output/parquet.py",
        old='        "video_start": record.start_s,\n        "video_end": record.end_s,',
        new='        "video_start": record.end_s,\n        "video_end": record.start_s,',
        tests=(f"{REPORT_TESTS}::test_parquet_and_its_card",),
    ),
    Mutation(
        name="report_counts_another_stages_rejects",
        promise="The report says which stage rejected how many records, and why.",
        file="data/production/runner/progress.py",
        old="        count = self.counts[report.step]\n        count.add(report)",
        new="        count = self.counts[report.link]\n        self.counts[max(report.step - 1, 0)].add(report)",
        tests=(f"{REPORT_TESTS}::test_counts_are_those_of_the_files",),
    ),
    Mutation(
        name="report_runs_what_a_title_says",
        promise="Texts from strangers are escaped in the report.",
        file="data/production/report/page.py",
        old='    facts = " \\u00b7 ".join(escape(text) for text in',
        new='    facts = " \\u00b7 ".join(str(text) for text in',
        tests=(f"{REPORT_TESTS}::test_the_page_is_safe_and_shows_the_run",),
    ),
)

ON_RAY = (
    Mutation(
        name="ray_runs_on_this_machine_instead",
        promise="--engine ray works in actors of the cluster.",
        file=ENGINES,
        old="        return RayRunner(ray_address, num_workers, retry_failed, most)",
        new="        return LocalRunner(num_workers, retry_failed)",
        tests=(f"{RAY_TESTS}::test_work_goes_over_two_nodes",),
    ),
    Mutation(
        name="ray_actors_run_other_code",
        promise="Actors on all machines run the code of the driver, from the same path.",
        file=ENGINES,
        old='os.pathsep.join([str(REPOSITORY), os.environ.get("PYTHONPATH", "")])',
        new='os.pathsep.join([os.environ.get("PYTHONPATH", ""), str(REPOSITORY)])',
        tests=(f"{RAY_TESTS}::test_actors_run_the_code_of_the_driver",),
    ),
    Mutation(
        name="ray_whole_machine_stage_on_one_node",
        promise="A stage that takes a whole machine has a worker on each node of a cluster.",
        file=ENGINES,
        old='    return {"CPU": cpus, "GPU": 0.0}, max(1, int(total["CPU"] // cpus))',
        new='    return {"CPU": cpus, "GPU": 0.0}, 1',
        tests=(
            f"{RUN_TESTS}::test_stages_stream_together_only_where_all_have_room",
            f"{RAY_TESTS}::test_a_stage_that_takes_a_whole_machine_works_on_two_nodes",
        ),
    ),
    Mutation(
        name="ray_forgets_retry_failed",
        promise="--retry_failed tries failed records again on a cluster too.",
        file=ENGINES,
        old="fn_constructor_args=(inside, str(folder.resolve()), self.retry_failed, run),",
        new="fn_constructor_args=(inside, str(folder.resolve()), False, run),",
        tests=(f"{RAY_TESTS}::test_failed_records_are_tried_again_on_a_cluster_and_only_those",),
    ),
)

MODEL_STAGES = (
    Mutation(
        name="word_times_shifted_by_the_stretch",
        promise="Recognised words have the times of the video, whatever stretch they were heard in.",
        file="data/production/distributed_whisperx.py",
        old="        words = [word for segment in segments for word in segment.words or ()]",
        new="""        words = [
            type(word)(**{**vars(word), "start": word.start - segment.start, "end": word.end - segment.start})
            for segment in segments
            for word in segment.words or ()
        ]""",
        tests=("tests/test_production_asr.py::test_words_have_the_times_of_the_video_whatever_stretches_are_read",),
    ),
    Mutation(
        name="lm_loss_over_the_context_too",
        promise="lm_loss is the mean loss of the transcript's tokens alone, given title and earlier speech.",
        file="data/production/language_model/causal_lm.py",
        old='self._plain(f" {answer}" if begun else answer)], len(given))',
        new='self._plain(f" {answer}" if begun else answer)], 1)',
        tests=("tests/test_production_lm_loss.py::test_what_the_model_is_given_and_what_is_scored",),
    ),
    Mutation(
        name="lm_loss_of_the_token_before",
        promise="A transcript's loss is the model's own for its tokens.",
        file="data/production/language_model/causal_lm.py",
        old="        targets = torch.tensor([i for text in texts for i in text.ids[text.n_given :]])",
        new="        targets = torch.tensor([i for text in texts for i in text.ids[text.n_given - 1 : -1]])",
        tests=("tests/test_production_lm_loss.py::test_losses_are_those_of_one_text_at_a_time",),
    ),
    Mutation(
        name="lm_loss_threshold_inverted",
        promise="Clips whose loss is from 1.5 to the limit are kept.",
        file="data/production/lm_loss.py",
        old="        if loss < self.options.min_loss:",
        new="        if loss > self.options.min_loss:",
        tests=("tests/test_production_lm_loss.py::test_thresholds_belong_to_what_is_kept",),
    ),
    Mutation(
        name="too_long_a_past_loses_its_end",
        promise="Over --max_tokens earlier speech loses its start, not what was said just before.",
        file="data/production/lm_loss.py",
        old='            text = self._read(record, " ".join(said[n_out:]))',
        new='            text = self._read(record, " ".join(said[: len(said) - n_out]))',
        tests=("tests/test_production_lm_loss.py::test_too_long_a_past_loses_its_start",),
    ),
    Mutation(
        name="talking_head_threshold_inverted",
        promise="Clips in which a model sees a talking head are rejected.",
        file="data/production/distributed_lmm4asd.py",
        old="        if record.scores[SCORE] >= self.options.threshold:",
        new="        if record.scores[SCORE] < self.options.threshold:",
        tests=("tests/test_production_talking.py::test_question_stage_thresholds_and_options",),
    ),
    Mutation(
        name="talking_head_ratio_inverted",
        promise="The share of frames in which someone is seen speaking is measured.",
        file="data/production/distributed_lighter_asd.py",
        old="            speaking[place] |= (scores > 0).cpu().numpy()",
        new="            speaking[place] |= (scores <= 0).cpu().numpy()",
        tests=("tests/test_production_talking.py::test_the_speaker_stage_counts_frames",),
    ),
    Mutation(
        name="proxies_with_shifted_times",
        promise="A proxy holds the frames of its clip at their exact times.",
        file="data/production/make_proxies.py",
        old="    return [first + Fraction(k, FPS) for k in range(len(clip.plan) - clip.plan.n_padded)]",
        new="    return [first + Fraction(k + 1, FPS) for k in range(len(clip.plan) - clip.plan.n_padded)]",
        tests=(
            "tests/test_production_proxies.py::test_the_grid_takes_the_same_frames_at_the_same_times[plain.mp4-mpeg4]",
        ),
    ),
    Mutation(
        name="proxies_are_not_read_back",
        promise="A proxy that would not give training the same frames is not used.",
        file="data/production/make_proxies.py",
        old="            if not written or not self._gives_the_same(partial, record, clip):",
        new="            if not written:",
        tests=("tests/test_production_proxies.py::test_a_proxy_that_would_not_give_the_same_frames_is_not_used",),
    ),
)

QUALITY = (
    Mutation(
        name="near_duplicates_kept",
        promise="Clips that say nearly the same as an earlier one are rejected.",
        file="data/production/near_duplicates.py",
        old="        found = self.gathered.get(record.id)",
        new="        found = None",
        tests=(f"{QUALITY_TESTS}::test_near_duplicates_are_found_and_the_first_is_kept",),
    ),
    Mutation(
        name="similarity_threshold_ignored",
        promise="Only clips that share 0.7 of their runs of words count as near duplicates.",
        file="data/production/near_duplicates.py",
        old="        if similarity >= min_similarity and (similarity, -root)",
        new="        if similarity >= 0.3 and (similarity, -root)",
        tests=(f"{QUALITY_TESTS}::test_duplicates_agree_with_exact_similarity",),
    ),
    Mutation(
        name="language_filter_inverted",
        promise="language_detect keeps clips in the language asked for.",
        file="data/production/language_detect.py",
        old="        if record.language != wanted:",
        new="        if record.language == wanted:",
        tests=(f"{QUALITY_TESTS}::test_language",),
    ),
    Mutation(
        name="profanity_kept",
        promise="With --max_share clips with more strong words are rejected.",
        file="data/production/profanity.py",
        old="        if share > self.options.max_share:",
        new="        if share > 1:",
        tests=(f"{QUALITY_TESTS}::test_profanity_can_reject_and_takes_a_list",),
    ),
    Mutation(
        name="personal_data_kept",
        promise="With --reject clips with personal data are rejected.",
        file="data/production/personal_data.py",
        old="        if self.options.reject and self.name in record.flags:",
        new="        if False and self.name in record.flags:",
        tests=(f"{QUALITY_TESTS}::test_personal_data_stage_keeps_no_data",),
    ),
    Mutation(
        name="personal_data_are_stored",
        promise="Kinds of personal data are noted, the data are not.",
        file="data/production/personal_data.py",
        old='            record.extra["personal_data"] = kinds',
        new='            record.extra["personal_data"] = [record.text]',
        tests=(f"{QUALITY_TESTS}::test_personal_data_stage_keeps_no_data",),
    ),
    Mutation(
        name="still_pictures_kept",
        promise="Slides and covers are rejected by their motion.",
        file="data/production/motion_score.py",
        old="        if motion < self.options.min_motion:",
        new="        if motion < 0:",
        tests=(f"{QUALITY_TESTS}::test_motion_tells_films_from_slides",),
    ),
    Mutation(
        name="caption_offset_of_the_other_sign",
        promise="Captions that are late are told from those that are early.",
        file="data/production/caption_offset.py",
        old="        (written_s - heard_s, i, 1 /",
        new="        (heard_s - written_s, i, 1 /",
        tests=(f"{QUALITY_TESTS}::test_offset_stage_listens_to_the_middle_and_judges",),
    ),
    Mutation(
        name="impossible_word_times_kept",
        promise="Clips with over 5 % of impossible word times are rejected.",
        file="data/production/word_times.py",
        old="        if share > self.options.max_bad_share:",
        new="        if share > 1:",
        tests=(f"{QUALITY_TESTS}::test_word_times_stage",),
    ),
)

MONEY = (
    Mutation(
        name="ledger_lock_locks_nothing",
        promise="The balance of a run is changed by one process at a time.",
        file=LEDGER,
        old="        fcntl.flock(self._lock, fcntl.LOCK_EX)",
        new="        fcntl.flock(self._lock, fcntl.LOCK_SH)",
        tests=(f"{LEDGER_TESTS}::test_a_balance_is_changed_by_one_process_at_a_time",),
    ),
    Mutation(
        name="living_process_counts_as_dead",
        promise="What a living process has reserved is not spent yet.",
        file=LEDGER,
        old="    except BlockingIOError:\n        return True",
        new="    except BlockingIOError:\n        return False",
        tests=(
            f"{LEDGER_TESTS}::test_what_a_killed_process_had_reserved_counts_as_spent_and_nobody_waits_for_it",
            f"{LEDGER_TESTS}::test_a_request_waits_for_those_of_other_processes",
        ),
    ),
    Mutation(
        name="killed_request_costs_nothing",
        promise="A request that a kill cut off counts as spent, at the most that it could cost.",
        file=LEDGER,
        old="                balance.spent += dollars",
        new="                balance.spent += 0",
        tests=(f"{LEDGER_TESTS}::test_what_a_killed_process_had_reserved_counts_as_spent_and_nobody_waits_for_it",),
    ),
    Mutation(
        name="budget_ignored",
        promise="--max_cost dollars are never passed.",
        file=SPENDING,
        old="if self.max_cost is None or self._before + balance.taken + most <= self.max_cost:",
        new="if True:",
        tests=(f"{ENDPOINT_TESTS}::test_the_cap_is_never_exceeded",),
    ),
    Mutation(
        name="requests_in_flight_cost_nothing",
        promise="Requests in flight count towards the cap, those of other processes too.",
        file=SPENDING,
        old="self._before + balance.taken + most <= self.max_cost:",
        new="self._before + balance.spent + most <= self.max_cost:",
        tests=(f"{ENDPOINT_TESTS}::test_the_cap_is_never_exceeded",),
    ),
    Mutation(
        name="replies_of_earlier_runs_cost_nothing",
        promise="Kept replies of runs without a cap count towards it.",
        file=ENDPOINT,
        old='            if spending.is_shared and not row.get("in_ledger"):',
        new='            if spending.is_shared and row.get("in_ledger") == "never":',
        tests=(f"{LEDGER_TESTS}::test_replies_of_runs_without_a_cap_count_and_none_counts_twice",),
    ),
    Mutation(
        name="retry_flag_ignored",
        promise="A request that failed is tried again --max_retries times.",
        file=ENDPOINT,
        old="        patience or Patience(max_retries=arguments.max_retries),",
        new="        patience or Patience(),",
        tests=(f"{ENDPOINT_TESTS}::test_the_number_of_retries_is_the_flags",),
    ),
    Mutation(
        name="retry_counts_ignored",
        promise="Trouble that stays ends a request after its retries.",
        file=ENDPOINT,
        old="        for attempt in range(self._patience.max_retries + 1):",
        new="        for attempt in range(self._patience.max_retries + 3):",
        tests=(f"{ENDPOINT_TESTS}::test_trouble_that_stays_ends",),
    ),
    Mutation(
        name="kept_replies_are_paid_again",
        promise="No request is paid for twice, also after a kill.",
        file=ENDPOINT,
        old="        kept = self._replies.get(key)",
        new="        kept = None",
        tests=(f"{ENDPOINT_TESTS}::test_replies_are_kept_and_free",),
    ),
    Mutation(
        name="key_in_messages",
        promise="The key is struck out of every message.",
        file=ENDPOINT,
        old='        return text.replace(self._secret, "[key]") if len(self._secret) >= 8 else text',
        new="        return text",
        tests=(f"{ENDPOINT_TESTS}::test_what_no_retry_mends_ends_the_run_at_once",),
    ),
    Mutation(
        name="rate_limit_ignored",
        promise="--requests_per_minute is a limit for all threads together.",
        file="utils/pace.py",
        old="            self._next_s = at_s + self._interval_s",
        new="            self._next_s = at_s",
        tests=(f"{ENDPOINT_TESTS}::test_the_rate_limit_is_shared_by_threads",),
    ),
    Mutation(
        name="query_repeats_the_transcript",
        promise="A query that gives the transcript away is rejected.",
        file="data/production/make_prompt.py",
        old="        elif o.max_shared_words and len(shared) > o.max_shared_words:",
        new="        elif o.max_shared_words and len(shared) > 1000:",
        tests=(f"{PROMPT_TESTS}::test_a_query_and_its_rejections",),
    ),
    Mutation(
        name="transcript_closes_its_tags",
        promise="A transcript cannot end its part of the prompt.",
        file="data/production/make_prompt.py",
        old="""        transcript = re.sub(r"</?transcript", "transcript", " ".join(words), flags=re.IGNORECASE)""",
        new="""        transcript = " ".join(words)""",
        tests=(f"{PROMPT_TESTS}::test_a_transcript_cannot_close_its_tags_or_fill_the_template",),
    ),
)

PRODUCTION: tuple[Mutation, ...] = (*INPUTS, *CUTTING, *RUNS, *ON_RAY, *MODEL_STAGES, *QUALITY, *MONEY)
