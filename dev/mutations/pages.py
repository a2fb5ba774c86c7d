"""Ways of breaking what the pages promise and no other list breaks."""

from dev.mutations.mutation import Mutation

TIMES = "tests/test_source_times.py::"
SERVERS = "tests/test_source_servers.py::"
ATTACKS = "tests/test_app_attacks.py::"
VIEWERS = "tests/test_app_viewers.py::"
ENDPOINT = "tests/test_endpoint.py::"
LAUNCH = "tests/test_launch.py::"
WATCHING = "tests/test_watching.py::"
PACKING = "tests/test_packing.py::"
LM_LOSS = "tests/test_production_lm_loss.py::"

COMMANDS = (
    Mutation(
        name="skipped_test_not_asked_about",
        promise="a test run fails when a test is skipped for which no reason is given",
        file="tests/skip_report.py",
        old="        unlisted = [test for test in self.reasons if not any(covers(entry, test) for entry in expected)]",
        new="        unlisted = []",
        tests=("tests/test_skip_report.py::test_differences_in_both_directions",),
    ),
    Mutation(
        name="data_imports_a_model",
        promise="nothing in data/ imports a model, production apart",
        file="data/loading/order.py",
        old="import numpy as np\n",
        new="import numpy as np\n\nfrom models.load import load_checkpoint  # noqa: F401\n",
        tests=("tests/test_house.py::test_data_imports_no_models",),
    ),
    Mutation(
        name="example_out_of_date",
        promise="the examples of inference.md run as they stand there",
        file="inference.md",
        old="for piece in session.ask(",
        new="for piece in session.answer(",
        tests=("tests/test_inference_md.py::test_question_in_mid_stream",),
    ),
    Mutation(
        name="example_of_the_7b_out_of_date",
        promise="what the example of the 7B model imports exists",
        file="inference.md",
        old="import torch\n\nfrom data.video.live import live_frames",
        new="import torch\n\nfrom data.video.live import all_frames as live_frames",
        tests=("tests/test_inference_md.py::test_the_7b_example_compiles_and_names_what_exists",),
    ),
    Mutation(
        name="whole_video_in_too_many_frames",
        promise="of 16 frames the nano model tells the score of a whole match",
        file="inference.md",
        old="max_frames=16)",
        new="max_frames=60)",
        tests=("tests/test_inference_md.py::test_question_about_a_whole_video",),
    ),
    Mutation(
        name="quit_goes_on",
        promise="/quit ends a viewing",
        file="demo/viewing.py",
        old='if command == "/quit":',
        new='if command == "/exit":',
        tests=("tests/test_cli.py::test_quit_and_unknown_commands",),
    ),
    Mutation(
        name="splits_share_their_kits",
        promise="test matches wear pairs of kits that no training match wears",
        file="data/nano/palette.py",
        old='{"train": rounds[:5],',
        new='{"train": rounds,',
        tests=("tests/test_nano_world.py::test_splits_share_no_kit_pair_and_no_pitch",),
    ),
)

SOURCES = (
    Mutation(
        name="frames_timed_by_their_arrival",
        promise="the stream's own stamps set the distance of frames, not the network",
        file="data/sources/timeline.py",
        old="        if not joined:\n            time_s = max(now_s, self._end_s)",
        new="        if True:\n            time_s = max(now_s, self._end_s)",
        tests=(f"{TIMES}test_stamps_set_the_distance_of_frames_not_the_network",),
    ),
    Mutation(
        name="first_opening_fails_in_silence",
        promise="a source that cannot be opened the first time is an error at once",
        file="data/sources/stream.py",
        old="            if not self._begun:\n                raise",
        new="            if not self._begun:\n                return\n                raise",
        tests=(f"{SERVERS}test_the_first_opening_fails_at_once",),
    ),
)

TRAINING = (
    Mutation(
        name="liger_is_fatal_without_a_gpu",
        promise="Liger's operations fall back on a CPU to the same computation",
        file="models/training/trainer.py",
        old="        if reason:\n            warn_once(",
        new="        if reason:\n            raise UserError(reason)\n            warn_once(",
        tests=("tests/test_liger.py::test_the_flag_is_never_fatal",),
    ),
    Mutation(
        name="rows_filled_by_the_shortest",
        promise="a row is filled by best fit",
        file="data/loading/packing.py",
        old="key=lambda i: (_fit(self.held[i], room), -i)",
        new="key=lambda i: (-_fit(self.held[i], room), -i)",
        tests=(f"{PACKING}test_the_oldest_opens_a_row_and_the_longest_that_fits_comes_next",),
    ),
    Mutation(
        name="epoch_estimated_by_each_rank",
        promise="the length of an epoch is estimated alike on every process",
        file="data/loading/loader.py",
        old="n_samples, n_rows = sum_over_ranks([float(sum(map(len, rows))), float(len(rows))])",
        new="n_samples, n_rows = [float(sum(map(len, rows))), float(len(rows))]",
        tests=(f"{PACKING}test_an_epoch_is_estimated_alike_on_every_rank_and_costs_no_sample",),
    ),
    Mutation(
        name="epoch_estimated_anew_after_a_resume",
        promise="the estimated length of an epoch is kept in the checkpoints",
        file="data/loading/loader.py",
        old='            state["batches_per_epoch"] = self.batches_per_epoch',
        new='            state["batches_per_epoch"] = None',
        tests=(f"{PACKING}test_the_length_of_an_epoch_is_kept_over_a_resume",),
    ),
    Mutation(
        name="nodes_do_not_divide_the_batch",
        promise="several nodes divide the batch of 512",
        file="scripts/launch_torchrun.sh",
        old="export ACCUMULATION=$((512 / processes))",
        new="export ACCUMULATION=64",
        tests=(f"{LAUNCH}test_two_nodes_of_eight_share_the_published_batch",),
    ),
    Mutation(
        name="slurm_meets_at_each_node",
        promise="the nodes of a Slurm job meet at its first node",
        file="scripts/launch_slurm.sh",
        old="  first=\"${hosts%%$'\\n'*}\"",
        new="  first=\"${hosts##*$'\\n'}\"",
        tests=(f"{LAUNCH}test_slurm_meets_at_the_jobs_first_node",),
    ),
    Mutation(
        name="lora_leaves_layers_out",
        promise="--lora_rank trains adapters on all linear layers of the text model",
        file="models/training/lora.py",
        old='"gate_proj", "up_proj", "down_proj")',
        new='"gate_proj", "up_proj")',
        tests=("tests/test_lora.py::test_adapters_are_the_text_models_and_alone_trained",),
    ),
    Mutation(
        name="tower_gets_no_adapters",
        promise="--lora_targets names other layers, those of the vision tower too",
        file="models/training/lora.py",
        old='isinstance(module, nn.Linear) and name != "lm_head"]',
        new='isinstance(module, nn.Linear) and name != "lm_head" and "visual" not in name]',
        tests=("tests/test_lora.py::test_the_tower_gets_adapters_only_by_name",),
    ),
    Mutation(
        name="record_without_the_weights_name",
        promise="the record of a run says of which weights it began",
        file="models/training/run_record.py",
        old='"weights": weight_fingerprints(model)',
        new='"weights": {}',
        tests=(f"{WATCHING}test_the_record_says_what_ran",),
    ),
    Mutation(
        name="held_out_commentary_of_all_streams",
        promise="--held_out_clips says how many streams of the file are commented",
        file="models/training/held_out.py",
        old="islice(streams, arguments.held_out_clips)",
        new="islice(streams, arguments.held_out_clips - 1)",
        tests=(f"{WATCHING}test_held_out_commentary_changes_nothing_of_the_training",),
    ),
    Mutation(
        name="flops_of_attention_counted_twice",
        promise="operations are those that torch counts",
        file="models/training/flops.py",
        old="self.attention = 2 * text.num_attention_heads",
        new="self.attention = 4 * text.num_attention_heads",
        tests=(f"{WATCHING}test_attention_is_half_of_the_square_in_text_and_whole_in_a_frame",),
    ),
)

PAGE = (
    Mutation(
        name="policy_of_the_browser_open",
        promise="the browser is told to fetch nothing from other servers",
        file="demo/web/page_auth.py",
        old="default-src 'none'; script-src 'self'",
        new="default-src *; script-src *",
        tests=(f"{ATTACKS}test_other_pages_and_names_are_refused",),
    ),
    Mutation(
        name="routes_of_gradio_open",
        promise="Gradio's uploads, files, proxies, calls and queue are closed",
        file="demo/web/page_auth.py",
        old='    return method in ("GET", "HEAD") and ".." not in path and GRADIO_PATHS.fullmatch(path) is not None',
        new="    return True",
        tests=(f"{ATTACKS}test_gradio_takes_nothing",),
    ),
    Mutation(
        name="undecodable_upload_accepted",
        promise="uploads must begin and decode as a video",
        file="demo/web/videos.py",
        old="    next(live_frames(path, limits=VideoLimits(max_pixels=MOST_PIXELS)))",
        new="    live_frames(path, limits=VideoLimits(max_pixels=MOST_PIXELS))",
        tests=(f"{ATTACKS}test_a_fake_video_is_refused_and_deleted",),
    ),
    Mutation(
        name="refused_upload_stays",
        promise="an upload that is no video is deleted",
        file="demo/web/videos.py",
        old='            log.warning("an upload was refused: %s", error)\n            path.unlink(missing_ok=True)',
        new='            log.warning("an upload was refused: %s", error)',
        tests=(f"{ATTACKS}test_a_fake_video_is_refused_and_deleted",),
    ),
    Mutation(
        name="paused_page_keeps_its_place",
        promise="a place is free again when the video was paused for --idle_minutes",
        file="demo/web/tab_registry.py",
        old="            await tab.stop()\n            minutes",
        new="            minutes",
        tests=(f"{VIEWERS}test_what_idles_or_is_gone_is_given_up",),
    ),
    Mutation(
        name="long_captions_not_divided",
        promise="long texts are cut into captions of two lines of 42 columns",
        file="demo/render/captions.py",
        old="MOST_LINES = 2",
        new="MOST_LINES = 3",
        tests=("tests/test_render_subtitles.py::test_long_captions_are_cut_behind_clauses_and_share_the_time",),
    ),
    Mutation(
        name="missing_glyphs_unnamed",
        promise="a warning names the characters that no installed font has",
        file="demo/render/fonts.py",
        old="    if missing:\n        some",
        new="    if False:\n        some",
        tests=("tests/test_render.py::test_missing_glyphs_are_named",),
    ),
    Mutation(
        name="original_not_lowered_under_speech",
        promise="speech is over the original lowered by 13 dB",
        file="demo/render/sound.py",
        old="        mixed = samples * self._gain(first, last)",
        new="        mixed = samples",
        tests=("tests/test_render_speech.py::test_the_original_is_lowered_under_speech_and_comes_back",),
    ),
)

SCORES = (
    Mutation(
        name="all_right_is_certain",
        promise="n of n right has the exact binomial interval",
        file="evaluation/scoring/stats.py",
        old="    return (0.0, doubt) if value < 0.5 else (1 - doubt, 1.0)",
        new="    return (0.0, 0.0) if value < 0.5 else (1.0, 1.0)",
        tests=("tests/test_stats.py::test_all_right_is_not_certain",),
    ),
    Mutation(
        name="report_shows_what_was_right",
        promise="half of a report's samples are of those that the first result got wrong",
        file="evaluation/pages/report_samples.py",
        old="    n_wrong = min(len(wrong), max(n_samples // 2, n_samples - len(right)))",
        new="    n_wrong = max(0, n_samples - len(right))",
        tests=("tests/test_report.py::test_samples_are_half_wrong_where_there_are_enough",),
    ),
    Mutation(
        name="cost_by_the_estimate",
        promise="tokens and dollars are counted from the replies' own usage",
        file="utils/endpoint.py",
        old="                reservation.settle(n_input, n_output)",
        new="                reservation.settle(2 * n_input, n_output)",
        tests=(f"{ENDPOINT}test_the_cost_is_the_servers_own_count",),
    ),
    Mutation(
        name="late_requests_cost_nothing",
        promise="a request that timed out may have been billed: it counts for the cap",
        file="utils/endpoint.py",
        old="                late = isinstance(error, openai.APITimeoutError)",
        new="                reservation.release()\n                late = isinstance(error, openai.APITimeoutError)",
        tests=(f"{ENDPOINT}test_requests_that_may_have_been_billed_count_for_the_cap",),
    ),
    Mutation(
        name="waits_do_not_double",
        promise="waits between retries double from 1 s to 60 s",
        file="utils/rate_limit.py",
        old="self.first_wait_s * 2**attempt)",
        new="self.first_wait_s)",
        tests=(f"{ENDPOINT}test_waits_double_and_are_drawn",),
    ),
    Mutation(
        name="failures_in_a_row_go_on",
        promise="eight failed requests in a row end the run",
        file="utils/endpoint.py",
        old="        if n_failures >= self._retries.max_failures:",
        new="        if False:",
        tests=(f"{ENDPOINT}test_failures_in_a_row_end_the_run",),
    ),
)

CHECKPOINTS = (
    Mutation(
        name="files_drawn_alike_without_weights",
        promise="without --annotation_weights files are drawn by size",
        file="data/loading/mixing.py",
        old="    if not weights:\n        return SampleOrder(sum(sizes), seed, rank, world)",
        new="    if not weights:\n        weights = [1.0] * len(sizes)",
        tests=("tests/test_mixing.py::test_without_weights_files_are_drawn_by_size",),
    ),
    Mutation(
        name="checkpoint_without_its_processor",
        promise="checkpoints are what plain transformers loads",
        file="models/load.py",
        old="        self.processor.save_pretrained(folder)",
        new="        self.processor.tokenizer.save_pretrained(folder)",
        tests=("tests/test_load.py::test_saved_checkpoints_load_here_and_in_plain_transformers",),
    ),
    Mutation(
        name="space_in_the_path_unnoticed",
        promise="train.py says so where DeepSpeed's extension cannot be linked for a space in the path",
        file="models/training/train_arguments.py",
        old='    if torch.cuda.is_available() or " " not in str(folder):',
        new="    if True:",
        tests=("tests/test_engines.py::test_an_environment_whose_path_has_a_space_cannot_build_deepspeed",),
    ),
    Mutation(
        name="share_of_supervised_tokens_wrong",
        promise="the log has the supervised share of the tokens",
        file="models/training/trainer.py",
        old="round(supervised / max(tokens, 1), 4)",
        new="round(tokens / max(tokens, 1), 4)",
        tests=(f"{WATCHING}test_logs_have_shares_and_memory",),
    ),
)

VIEWS = (
    Mutation(
        name="player_not_brought_to_the_servers_clock",
        promise="without --js_monitor the server's clock leads, and the player is brought to it",
        file="demo/web/static/stage.js",
        old="    if (this.monitor || clock_s === null",
        new="    if (!this.monitor || clock_s === null",
        tests=("tests/test_app.py::test_viewers_wait_in_line_and_the_server_may_lead",),
    ),
)

BENCHMARKS = (
    Mutation(
        name="odd_times_of_a_benchmark_are_zero",
        promise="a line of a benchmark's file that cannot be understood ends the command",
        file="evaluation/tasks/lines.py",
        old='raise UserError(f"{self.where}: {name} is {self[name]!r}; it must be a number of seconds") from None',
        new="return 0.0",
        tests=("tests/test_mvbench.py::test_a_bad_line_is_named",),
    ),
    Mutation(
        name="answers_kept_in_memory",
        promise="every answer is flushed as it comes",
        file="utils/journal.py",
        old="                self._file.flush()\n            except",
        new="            except",
        tests=("tests/test_store.py::test_two_stores_see_each_other",),
    ),
    Mutation(
        name="videomme_answers_are_letters",
        promise="VideoMME's result files are in the published format",
        file="evaluation/videomme/scores.py",
        old="            return option\n    return str(result.answer)",
        new="            return found[1]\n    return str(result.answer)",
        tests=("tests/test_score.py::test_letters_are_exported_as_the_options_they_stand_for",),
    ),
    Mutation(
        name="ovo_official_compares_logits",
        promise="OVO-Bench's official answers are generated",
        file="evaluation/ovobench/task.py",
        old='"official": _make_official_item, "online"',
        new='"official": _make_item, "online"',
        tests=("tests/test_ovobench.py",),
    ),
    Mutation(
        name="time_stamps_in_decimals",
        promise="StreamingBench's time stamps are hours, minutes and seconds",
        file="evaluation/streamingbench/task.py",
        old="seconds = seconds * 60 + float(part)",
        new="seconds = seconds * 100 + float(part)",
        tests=("tests/test_question_benchmarks.py::test_time_stamps",),
    ),
    Mutation(
        name="videos_for_who_takes_pictures",
        promise="a model whose processor has no video gets the frames as pictures",
        file="evaluation/predictors/captioner.py",
        old="pictures = self.video(clip) if self.takes_video else",
        new="pictures = self.video(clip) if True else",
        tests=("tests/test_captioner.py::test_a_processor_without_video_gets_pictures",),
    ),
    Mutation(
        name="captioner_forgets_the_position_mode",
        promise="a Qwen2-VL says the same to an evaluation as through the streaming code",
        file="evaluation/predictors/captioner.py",
        old="PositionTracker(self.position_mode)",
        new='PositionTracker("mrope")',
        tests=("tests/test_captioner.py::test_a_qwen2_vl_keeps_its_position_mode",),
    ),
    Mutation(
        name="nano_questions_in_another_format",
        promise="held-out matches of the nano world are in the formats of the benchmarks",
        file="evaluation/nano/benchmarks.py",
        old='"q_type": kind,',
        new='"kind": kind,',
        tests=("tests/test_nano_benchmarks.py::test_questions_by_kind",),
    ),
    Mutation(
        name="benchmark_scores_its_first_answer",
        promise="every benchmark's summary begins with the score of all its outcomes",
        file="evaluation/videomme/scores.py",
        old='return [overall("accuracy", results), *by_categories',
        new='return [overall("accuracy", results[:1]), *by_categories',
        tests=("tests/test_score.py::test_every_benchmark_keeps_the_contract",),
    ),
)

STAGES = (
    Mutation(
        name="stage_command_leaves_its_output_behind",
        promise="every stage is a command too, from one file to another",
        file="data/production/command.py",
        old="        link_file(result.folder / name, place)",
        new="        places_of(result.folder, output)",
        tests=("tests/test_production_run.py::test_a_stage_is_a_command",),
    ),
    Mutation(
        name="info_files_left_out",
        promise="a video is joined by its NAME.info.json",
        file="data/production/inputs/folder_input.py",
        old="            if files.info:\n                read_info",
        new="            if not files.info:\n                read_info",
        tests=("tests/test_production_inputs.py::test_a_folder_of_yt_dlp_works_as_it_is",),
    ),
    Mutation(
        name="word_in_pieces_timed_by_its_last",
        promise="a word in pieces is one word, with the time of its first piece",
        file="data/production/words/spoken_words.py",
        old="            tokens[-1] = Token(start, until, begun + words.pop(0))",
        new="            tokens[-1] = Token(at, until, begun + words.pop(0))",
        tests=("tests/test_production_captions.py::test_word_times_of_live_streams",),
    ),
    Mutation(
        name="bad_captions_without_their_file",
        promise="captions that cannot be used are rejected with the file's name",
        file="data/production/words/caption_files.py",
        old='raise BadCaptions(fault.reason, f"{path}: {fault}") from None',
        new="raise BadCaptions(fault.reason, str(fault)) from None",
        tests=("tests/test_production_captions.py::test_what_cannot_be_used_says_why",),
    ),
    Mutation(
        name="loss_by_what_else_is_read",
        promise="a loss does not depend on what else is in the batch, bit for bit",
        file="data/production/language_model/block_reader.py",
        old="        while n + WIDTH <= min(len(ids), len(kept)) and kept[n : n + WIDTH] == ids[n : n + WIDTH]:\n"
        "            n += WIDTH",
        new="        while n < min(len(ids), len(kept)) and kept[n] == ids[n]:\n            n += 1",
        tests=(f"{LM_LOSS}test_a_loss_does_not_depend_on_what_else_is_read",),
    ),
    Mutation(
        name="earlier_speech_read_for_each_clip",
        promise="what was said before is read once for all clips of a video",
        file="data/production/language_model/block_reader.py",
        old="        self._cache, self._kept = cache, ids[:end]",
        new="        self._cache, self._kept = DynamicCache(), []",
        tests=(f"{LM_LOSS}test_earlier_speech_is_read_once",),
    ),
    Mutation(
        name="whole_texts_read_without_a_word",
        promise="the stage says when it starts that it reads each clip's whole text",
        file="data/production/lm_loss.py",
        old="        if why := self.lm.reads_whole:\n            print(",
        new="        if not (why := self.lm.reads_whole):\n            print(",
        tests=(f"{LM_LOSS}test_a_model_with_a_window_reads_whole_texts_and_says_so",),
    ),
    Mutation(
        name="zeros_left_out_of_records",
        promise="fields that say nothing are left out of a record's line, and no others",
        file="data/production/record.py",
        old="if value or value == 0}",
        new="if value}",
        tests=("tests/test_production_words.py::test_a_record_survives_its_line",),
    ),
)

PAGES = (*COMMANDS, *SOURCES, *TRAINING, *CHECKPOINTS, *PAGE, *VIEWS, *SCORES, *BENCHMARKS, *STAGES)
